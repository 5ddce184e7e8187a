"""MaPLe: Multi-modal Prompt Learning, Khattak et al., CVPR 2023, https://arxiv.org/abs/2210.03117."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.ivlp import both_sides, check_counts
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.deep import Coupled, DeepText


class MaPLe(Method):
    """Text prompts of each of the first J blocks, and one linear layer a block that makes them image prompts.

    Section 3.2: image prompts are coupled to the text prompts of their block, and have no values of their own.

    Args:
        tower: the image encoder, of any width.
        text: the text encoder, of any width.
        num_context: prompts n a block, in each encoder.
        depth: J; by default 9, or all blocks of the shallower encoder where it has fewer.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do. Those beyond
            `num_context` stay in every text, frozen.

    Raises:
        VptError: as `IVLP`.
    """

    name = "maple"
    source = "Khattak et al., CVPR 2023"
    head = "text"
    heads = ("text",)
    renamed = (("text_values", "context.values"), ("project.", "prompts.project."))

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_context: int = 2,
        depth: int | None = None,
        init: str | None = "a photo of a",
    ) -> None:
        text, depth = both_sides(self.name, tower, text, 9 if depth is None else depth, given=depth is not None)
        check_counts(num_context=num_context)
        context = DeepText(text, num_context=num_context, depth=depth, init=init)
        super().__init__(context=context, prompts=Coupled(tower, context))
        self.template = context.template
