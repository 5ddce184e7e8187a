"""Conditional Context Optimization (CoCoOp), Zhou et al., CVPR 2022, https://arxiv.org/abs/2203.05557."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.context import ImageContext


class CoCoOp(Method):
    """Unified context, each token of which is moved by one vector that a small network makes of the image.

    The network has a sixteenth of the features between its two layers (section 3.2).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.
    """

    name = "cocoop"
    source = "Zhou et al., CVPR 2022"
    head = "text"
    heads = ("text",)
    template = "{}."
    renamed = (("values", "context.values"), ("meta_net.", "context.network."))

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = "a photo of a",
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(context=ImageContext(tower, text, self.name, reduction=16, init=init, num_tokens=num_tokens))
