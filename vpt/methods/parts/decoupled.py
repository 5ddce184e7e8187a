"""A head of the classes of training beside similarities with texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.objective import Around, Objective
from vpt.methods.parts.outputs import Outputs
from vpt.methods.parts.rows import OfTrained
from vpt.normalised import normalised
from vpt.precision import full_precision


class Decoupled(OfTrained):
    """(1 - weight) · similarities + weight · head(scale ⊙ f + shift) in evaluation, similarities in training.

    Args:
        num_features: F.
        name: of the method, for errors.
        weight: of the head.

    Attributes:
        image_scale: of image features, (F,); begins as 1.
        image_shift: likewise, as 0.
        text_scale: of text features.
        text_shift: likewise.
        head: of the classes of training.
    """

    lengths = True
    as_head = True

    def __init__(self, num_features: int, name: str, weight: float) -> None:
        super().__init__(name)
        self.weight = weight
        self.image_scale, self.text_scale = (nn.Parameter(torch.ones(num_features)) for _ in range(2))
        self.image_shift, self.text_shift = (nn.Parameter(torch.zeros(num_features)) for _ in range(2))
        self.head = nn.Linear(num_features, 1)

    def set_num_classes(self, num_classes: int) -> None:
        """The head has an output for each class."""
        if not num_classes:
            raise VptError(f"{self.name} learns a head of its classes, and there are none: name the classes.")
        self.head = nn.Linear(self.head.in_features, num_classes)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Of features as the encoders make them."""
        known = similarities(normalised(image), normalised(text), scale)
        if self.training:
            # The loss has the head's by itself; a head of other classes says so here.
            self.chosen(self.head.bias, self.head.bias)
            return known
        of_head = self.head(self._scaled(image, self.image_scale, self.image_shift))
        return (1 - self.weight) * known + self.weight * self.chosen(of_head.T, known.T).T

    def examples(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Logits of the head for the texts of the labels and for the images, (2 B, C)."""
        own = text[labels] if text.ndim == 2 else text[torch.arange(len(labels), device=labels.device), labels]
        texts = self._scaled(own, self.text_scale, self.text_shift)
        images = self._scaled(image, self.image_scale, self.image_shift)
        found: Tensor = self.head(torch.cat([texts, images]))
        return found

    def _scaled(self, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return features.to(scale.dtype) * scale + shift


class DecoupledLoss(Objective):
    """Takes `weight` of the cross entropy of similarities away, and adds as much of that of the head.

    Args:
        decoupled: whose head it is.
    """

    wants_frozen = False

    def __init__(self, decoupled: Decoupled) -> None:
        super().__init__()
        # It is a part of its own.
        self._of = (decoupled,)

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """So that other terms keep their weights, whichever comes first."""
        (decoupled,) = self._of
        assert outputs.raw_image is not None
        assert outputs.raw_text is not None
        logits = decoupled.examples(outputs.raw_image, outputs.raw_text, labels)
        of_head = F.cross_entropy(full_precision(logits), labels.repeat(2))
        return so_far + decoupled.weight * (of_head - around.entropy(outputs.logits))
