"""Context Optimization (CoOp), Zhou et al., IJCV 2022, https://arxiv.org/abs/2109.01134."""

from __future__ import annotations

from typing import Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.context import PlacedContext

RENAMED = (("values", "context.values"),)


class CoOp(Method):
    """Context that all classes share, or that each has for itself, before, around or behind the class name.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as, e.g. "a photo of a"; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.
        csc: class-specific context, one for each class (equation 4 with its own vectors); unified without it.
        position: of the class name: at the end as in equation 2, in the middle as in equation 3, the first n // 2
            tokens before it, or in front of the context, as in the paper's code.
    """

    name = "coop"
    source = "Zhou et al., IJCV 2022"
    head = "text"
    heads = ("text",)
    template = "{}."
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = None,
        num_tokens: int | None = None,
        csc: bool = False,
        position: Literal["end", "middle", "front"] = "end",
    ) -> None:
        context = PlacedContext(text, self.name, init=init, num_tokens=num_tokens, csc=csc, position=position)
        super().__init__(context=context)
