"""Classifiers that learn something for each class of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import Classifier, similarities
from vpt.normalised import normalised


def beside(part: nn.Module, places: Sequence[int] | None) -> Tensor | None:
    """Numbers of classes as a tensor where a part's own tensors lie: no pass is to bring it there."""
    if places is None:
        return None
    own = next(chain(part.parameters(), part.buffers()), None)
    return torch.tensor(places, device=None if own is None else own.device)


class OfTrained(Classifier):
    """A classifier that has learned something for each class of training, and judges others by their texts.

    Args:
        name: of the method, for errors.

    Attributes:
        places: number of each class in use among those of training, -1 for others; None where they are the same.
    """

    places: Tensor | None

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("places", None, persistent=False)

    def set_classes(self, places: Sequence[int] | None) -> None:
        """Which of what was learned is each class's."""
        self.places = beside(self, places)

    def chosen(self, learned: Tensor, otherwise: Tensor) -> Tensor:
        """What was learned for each class in use, (C, …), and for one that was not trained what `otherwise` has."""
        if self.places is None:
            return learned
        if self.training:
            raise VptError(f"{self.name} has learned for other classes than those in use: make a model for these.")
        known = (self.places >= 0).view(-1, *[1] * (learned.ndim - 1))
        return torch.where(known, learned[self.places.clamp(min=0)], otherwise.to(learned.dtype))


class Rows(OfTrained):
    """A weight for each class, which is its text feature at first: logits are scale · f · Wᵀ, (B, C).

    Image features f are L2-normalised; weights W (C, F) are free after the first step, lengths included. Until
    `prepare` has told the classes there are no weights, and text features stand in their place.

    Args:
        num_features: F.
        name: of the method, for errors.
        cosine: weights are L2-normalised where they are used, and begin as long as text features are.
    """

    needs_features = True

    def __init__(self, num_features: int, name: str, *, cosine: bool = False) -> None:
        super().__init__(name)
        self.lengths = cosine
        self.weight = nn.Parameter(torch.empty(0, num_features))

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """scale · f · Wᵀ."""
        weight = self.rows(text)
        if self.lengths:
            image, weight = normalised(image), normalised(weight)
        return similarities(image.to(weight.dtype), weight, scale)

    def rows(self, text: Tensor) -> Tensor:
        """The weight of each class in use, (C, F), where its text feature is to stand for one that was not trained."""
        if len(self.weight):
            return self.chosen(self.weight, text)
        if self.training:
            raise VptError(f"{self.name} has no weights to train yet: call prepare before the first step.")
        return text

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """W becomes the text features (C, F)."""
        self.weight.data = text.detach().to(self.weight, copy=True)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many weights as there were classes."""
        self.weight.data = self.weight.new_empty(len(state["weight"]), self.weight.shape[1])


class Residuals(Rows):
    """Weights are L2-normalised t + alpha · x, with text features t as long as they are made, and x (C, F) learned.

    Args:
        num_features: F.
        name: of the method, for errors.
        alpha: scales what is learned.
    """

    def __init__(self, num_features: int, name: str, alpha: float) -> None:
        super().__init__(num_features, name, cosine=True)
        self.alpha = alpha

    def rows(self, text: Tensor) -> Tensor:
        """t + alpha · x, and t of a class that was not trained."""
        learned = super().rows(torch.zeros_like(text))
        return torch.add(text, learned.to(text.dtype), alpha=self.alpha)

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """x becomes 0."""
        self.weight.data = torch.zeros_like(text, dtype=self.weight.dtype)
