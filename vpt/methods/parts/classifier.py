"""From features to logits: the kind of part, and similarities with texts, which most methods leave as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from vpt.methods.parts.base import Part


class Classifier(Part):
    """Image features and text features of the classes to logits.

    Attributes:
        needs_features: `prepare` must be called with features of the training images before the first step.
        searches: `search` must be called with features of validation images, where there are any, after training.
        of_classes: what is learned belongs to classes, and has no place where images are compared with texts.
        lengths: features are given as long as the encoders make them, and not L2-normalised; those of several
            templates are averaged so too.
        as_head: what is learned has the learning rate of heads.
        alone: no encoder is trained any more, nor what enters it.
        all_views: `prepare` is given each augmented view of an image by itself, and not the mean of them.
        needs_teacher: `teach` must be called with another model's features of the classes before the first step, and
            losses look at what that model says.
    """

    claims = frozenset({"classifier"})
    needs_features: bool = False
    searches: bool = False
    of_classes: bool = True
    lengths: bool = False
    as_head: bool = False
    alone: bool = False
    all_views: bool = False
    needs_teacher: bool = False

    def compared(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """What `logits` and losses are given in place of L2-normalised features (B, F) and (C, F) or (B, C, F)."""
        return image, text

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """L2-normalised features (B, F) and (C, F) or (B, C, F) to logits (B, C), unless `lengths` are wanted."""
        return similarities(image, text, scale)

    def stages(self, epochs: int) -> dict[str, tuple[int, int]]:
        """First epoch, from 0, and end of what is trained one after another, by the groups of `parameter_groups`.

        Empty where all is trained in every epoch.
        """
        return {}

    def begins(self, epoch: int, epochs: int) -> bool:
        """Whether `begin` is to be called after epoch 1, 2, … of `epochs`."""
        return False

    def begin(self, text: Tensor) -> None:
        """Begin a stage with the features of the classes (C, F), as `logits` takes them."""

    def teach(self, text: Tensor) -> None:
        """Begin with a teacher's features of the classes, L2-normalised (C, T)."""

    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Set what is learned from L2-normalised features of all training images (N, F), and those of classes (C, F).

        Features of classes are as `logits` takes them.
        """

    def search(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> float | None:
        """Choose what is not trained by features of validation images (M, F) and of classes, as `prepare` has them."""


class Similarities(Classifier):
    """Scaled cosine similarities, of any texts."""

    claims = frozenset()
    of_classes = False


def similarities(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Scaled cosine similarities of L2-normalised features (B, F) and (C, F) or (B, C, F), (B, C)."""
    if text.ndim == 3:
        return scale * torch.einsum("bf,bcf->bc", image, text)
    return scale * image @ text.T
