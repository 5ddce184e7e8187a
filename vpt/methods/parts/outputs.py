"""What a model says of a batch, for losses that look at more than logits."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """What a model with text features as classifier says of a batch, for losses that look at more than logits.

    Attributes:
        logits: (B, C).
        image: prompted image features, L2-normalised, (B, F).
        text: prompted features of the classes, L2-normalised, (C, F) or (B, C, F).
        scale: what similarities are multiplied by.
        frozen_image: image features of the model without the method, (B, F), where the method `needs_frozen`.
        frozen_text: features of the hand-written templates without the method, (C, F), likewise.
        raw_image: image features as the encoder makes them, (B, F), where the classifier takes those.
        raw_text: likewise of the classes.
        taught: the teacher's logits (B, C), where there is one.
    """

    logits: Tensor
    image: Tensor
    text: Tensor
    scale: Tensor
    frozen_image: Tensor | None
    frozen_text: Tensor | None
    raw_image: Tensor | None = None
    raw_text: Tensor | None = None
    taught: Tensor | None = None
