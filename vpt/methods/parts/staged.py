"""Rows of classes that are trained when the encoders have been."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.rows import Rows
from vpt.normalised import normalised


class StagedRows(Rows):
    """Similarities with texts in the first stage, and in the second L2-normalised rows, which begin as text features.

    Args:
        num_features: F.
        name: of the method, for errors.
        share: of the epochs that the first stage has.

    Attributes:
        begun: whether the second stage has.
    """

    needs_features = False

    begun: Tensor

    def __init__(self, num_features: int, name: str, share: float) -> None:
        super().__init__(num_features, name, cosine=True)
        self.share = share
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        # Of the buffer, for which a GPU would have to be waited for.
        self.alone = False

    def set_num_classes(self, num_classes: int) -> None:
        """A row for each class."""
        if not num_classes:
            raise VptError(f"{self.name} learns a row for each class, and there are none: name the classes.")
        self.weight = nn.Parameter(self.weight.new_zeros(num_classes, self.weight.shape[1]))

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Of features as the encoders make them."""
        if self.alone:
            return super().logits(image, text, scale)
        if self.training:
            # Rows of other classes say so here.
            self.chosen(self.weight, text)
        return similarities(normalised(image), normalised(text), scale)

    def stages(self, epochs: int) -> dict[str, tuple[int, int]]:
        """The encoders' epochs, and those of rows; each has one or more."""
        ends = min(max(1, round(self.share * epochs)), epochs - 1)
        return {"backbone": (0, ends), "prompts": (ends, epochs)}

    def begins(self, epoch: int, epochs: int) -> bool:
        """Whether the first stage ends with this epoch."""
        return epoch == self.stages(epochs)["backbone"][1]

    @torch.no_grad()
    def begin(self, text: Tensor) -> None:
        """Rows become the text features of the classes (C, F)."""
        self.weight.copy_(text)
        self.begun.fill_(True)
        self.alone = True

    def loaded(self) -> None:
        """As what was loaded."""
        self.alone = bool(self.begun)
