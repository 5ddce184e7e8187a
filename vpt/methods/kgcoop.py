"""Knowledge-guided Context Optimization (KgCoOp), Yao et al., CVPR 2023, https://arxiv.org/abs/2303.13283."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.coop import RENAMED
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.context import Context
from vpt.methods.parts.distances import NearTexts


class KgCoOp(Method):
    """CoOp whose class features are held near those of the hand-written templates.

    Loss: cross entropy + weight · (1 - mean over classes of cos(t, t_template)), as in the paper's code; up to a
    factor of 2 the squared distance of equation 4.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.
        weight: of the second term, λ in equation 5.
    """

    name = "kgcoop"
    source = "Yao et al., CVPR 2023"
    head = "text"
    heads = ("text",)
    template = "{}."
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        weight: float = 8.0,
        init: str | None = "a photo of a",
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(context=Context(text, self.name, init=init, num_tokens=num_tokens), near=NearTexts(weight))
