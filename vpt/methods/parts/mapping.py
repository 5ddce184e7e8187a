"""Label mapping: classes that an encoder was trained on stand for new ones (Chen et al., CVPR 2023, ILM-VP)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.base import Head

# When each kind looks at the training images.
LOOKS: dict[str, Literal["never", "once", "epochs"]] = {"random": "never", "frequency": "once", "iterative": "epochs"}


class LabelMapping(Head):
    """An encoder's own classifier, of whose S classes C stand for the new ones, each for one.

    Args:
        classifier: its weights (S, F) and biases (S,) or None.
        kind: "random", "frequency" or "iterative"; the last two look at training images.

    Attributes:
        mapping: which of the S classes each new one is, (C,).

    Raises:
        VptError: the encoder has no classifier.
    """

    weight: Tensor
    bias: Tensor
    mapping: Tensor

    def __init__(self, classifier: tuple[Tensor, Tensor | None] | None, kind: str) -> None:
        super().__init__()
        if classifier is None:
            raise VptError(
                f"mapping={kind} needs classes that the encoder was trained on, and it has no linear classifier of its "
                "own: take a model with one, such as timm's or torchvision's of ImageNet, or leave mapping out."
            )
        self.looks = LOOKS[kind]
        weight, bias = classifier
        self.register_buffer("weight", weight.detach().clone(), persistent=False)
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        self.register_buffer("bias", bias.detach().clone(), persistent=False)
        self.register_buffer("mapping", torch.zeros(0, dtype=torch.long))

    def set_num_classes(self, num_classes: int) -> None:
        """Draw a class for each of the new ones.

        Raises:
            VptError: there are fewer.
        """
        if num_classes > len(self.weight):
            raise VptError(f"{num_classes} classes cannot be mapped: the encoder was trained on {len(self.weight)}.")
        self.mapping = torch.randperm(len(self.weight))[:num_classes]

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to logits of the new classes (B, C)."""
        return F.linear(features, self.weight[self.mapping], self.bias[self.mapping])

    def look(self, features: Tensor, labels: Tensor) -> None:
        """Map anew: by what training images of each class are taken for, the most frequent pair first.

        Args:
            features: of training images, (N, F).
            labels: of them, (N,).
        """
        seen = F.linear(features.to(self.weight.dtype), self.weight, self.bias).argmax(dim=1)
        counts = torch.zeros(len(self.mapping), len(self.weight), dtype=torch.long, device=seen.device)
        counts.index_put_((labels, seen), torch.ones_like(labels), accumulate=True)
        self.mapping.copy_(one_to_one(counts))


def one_to_one(counts: Tensor) -> Tensor:
    """For each row of (C, S) a column of its own, the pair of the largest count first, of equal ones the first."""
    counts = counts.clone()
    found = torch.zeros(len(counts), dtype=torch.long, device=counts.device)
    for _ in range(len(counts)):
        row, column = divmod(int(counts.argmax()), counts.shape[1])
        found[row] = column
        counts[row] = -2
        counts[:, column] = torch.where(counts[:, column] == -2, -2, -1)
    return found
