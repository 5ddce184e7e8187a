"""Rows that are learned for the classes of training, as classifier."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Classifier, similarities


class Rows(Classifier):
    """A weight for each class, which is its text feature at first: logits are scale · f · Wᵀ, (B, C).

    Image features f are L2-normalised and stay as they are; weights W (C, F) are free after the first step, lengths
    included. Until `prepare` has told the classes there are no weights, and text features stand in their place.

    Args:
        num_features: F.
        name: of the method, for errors.
    """

    needs_features = True

    def __init__(self, num_features: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.empty(0, num_features))

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """scale · f · Wᵀ."""
        if not len(self.weight):
            if self.training:
                raise VptError(f"{self.name} has no weights to train yet: call prepare before the first step.")
            return similarities(image, text, scale)
        return similarities(image.to(self.weight.dtype), self.weight, scale)

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """W becomes the text features (C, F)."""
        self.weight.data = text.detach().to(self.weight, copy=True)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many weights as there were classes."""
        self.weight.data = self.weight.new_empty(len(state["weight"]), self.weight.shape[1])

    def check_new_classes(self) -> None:
        """Each weight belongs to its class."""
        raise VptError(f"{self.name} learns a weight for each of its classes: train it again to change them.")
