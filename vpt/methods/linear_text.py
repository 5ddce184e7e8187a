"""A linear probe that starts from text features: the language-augmented adaptation of Li et al., "ELEVATER".

NeurIPS 2022 (Datasets and Benchmarks), https://arxiv.org/abs/2204.08790.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder


class LinearText(Method):
    """A weight for each class, which is its text feature at first: logits are scale · f · Wᵀ, (B, C).

    Image features f are L2-normalised and stay as they are; weights W (C, F) are free after the first step, lengths
    included. Until `prepare` has told the classes there are no weights, and text features stand in their place.
    """

    name = "linear-text"
    source = "Li et al., NeurIPS 2022"
    head = "text"
    heads = ("text",)
    needs_features = True

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(tower, text)
        self.weight = nn.Parameter(torch.empty(0, tower.num_features))

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """scale · f · Wᵀ."""
        if not len(self.weight):
            if self.training:
                raise VptError("linear-text has no weights to train yet: call prepare before the first step.")
            return super().logits(image, text, scale)
        return super().logits(image.to(self.weight.dtype), self.weight, scale)

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """W becomes the text features (C, F)."""
        self.weight.data = text.detach().to(self.weight, copy=True)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many weights as there were classes."""
        self.weight.data = self.weight.new_empty(len(state["weight"]), self.weight.shape[1])

    def check_new_classes(self) -> None:
        """Each weight belongs to its class."""
        raise VptError("linear-text learns a weight for each of its classes: train it again to change them.")
