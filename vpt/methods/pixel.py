"""Prompts in pixels: Bahng et al., 2022, https://arxiv.org/abs/2203.17274, and what followed it."""

from __future__ import annotations

from typing import Literal

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.methods.parts.frames import AddedPixels
from vpt.methods.parts.mapping import LabelMapping


class Pixel(Method):
    """What is learned is added to the pixels of every image, before the encoder, which can be any.

    Values are in the units of preprocessed images. The classifier is a new linear head, the class names, or, with
    `mapping`, the encoder's own classifier, of whose classes each stands for one of the new ones.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        kind: a frame all around ("padding"), a square in the upper left corner ("fixed-patch") or at a place that each
            image draws anew in training ("random-patch"; in the middle otherwise), of values from N(0, 1) at first; or
            B A for each channel ("low-rank", LoR-VP: Jin et al., ICLR 2025), of B (H, rank), zero at first, and A
            (rank, W), from N(0, 1).
        size: width of the frame, or side of the square, in pixels.
        rank: of "low-rank".
        resize: make the image as small as the inside of the frame, which then covers none of it (ILM-VP: Chen et al.,
            CVPR 2023; AutoVP: Tsao et al., ICLR 2024).
        mapping: which of the classes that the encoder was trained on each new one is: "random" ones, those that
            training images are most often taken for at first ("frequency"), or, found anew before each epoch, those
            that prompted ones are ("iterative": ILM-VP, Chen et al., CVPR 2023). No head is then trained.
    """

    name = "pixel"
    source = "Bahng et al., 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        kind: Literal["padding", "fixed-patch", "random-patch", "low-rank"] = "padding",
        size: int = 30,
        rank: int = 4,
        resize: bool = False,
        mapping: Literal["random", "frequency", "iterative"] | None = None,
    ) -> None:
        parts: dict[str, Part] = {"added": AddedPixels(kind, tower.channels, size=size, rank=rank, resize=resize)}
        if mapping is not None:
            if text is not None:
                raise VptError("mapping is for the encoder's own classes, and head='text' has class names: drop one.")
            parts["mapped"] = LabelMapping(tower.classifier, mapping)
        super().__init__(**parts)
