"""MaPLe: Multi-modal Prompt Learning, Khattak et al., CVPR 2023, https://arxiv.org/abs/2210.03117."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from vpt.methods.base import Encoder, TextEncoder
from vpt.methods.ivlp import BothSides, up_to


class MaPLe(BothSides):
    """Text prompts of each of the first J blocks, and one linear layer a block that makes them image prompts.

    Section 3.2: image prompts are coupled to the text prompts of their block, and have no values of their own.

    Args:
        tower: the image encoder, of any width.
        text: the text encoder, of any width.
        num_context: prompts n a block, in each encoder.
        depth: J; by default 9, or all blocks of the shallower encoder where it has fewer.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do. Those beyond
            `num_context` stay in every text, frozen.
    """

    name = "maple"
    source = "Khattak et al., CVPR 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_context: int = 2,
        depth: int | None = None,
        init: str | None = "a photo of a",
    ) -> None:
        depth = up_to(9, tower, text) if depth is None else depth
        super().__init__(tower, text, num_tokens=num_context, num_context=num_context, depth=depth, init=init)
        text_width = self.text_values.shape[-1]
        # In the authors' code the layers of blocks 1 to J-1 begin as copies of one.
        deep = nn.Linear(text_width, tower.width)
        copies = [copy.deepcopy(deep) for _ in range(depth - 1)]
        self.project = nn.ModuleList([nn.Linear(text_width, tower.width), *copies])

    def prompts(self, layer: int, batch: int) -> Tensor:
        """Image prompts of block `layer`, from its text prompts, (1, n, D)."""
        projected: Tensor = self.project[layer](self.text_prompts(layer))
        return projected
