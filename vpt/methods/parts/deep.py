"""Prompts of several blocks, in the text encoder and coupled from it to the image encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import ImagePrompts, TextPrompts
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.words import initial_words


class DeepText(TextPrompts):
    """Text prompts behind the start token, new ones before each of the first blocks (Rasheed et al., CVPR 2023).

    Those of block 0 are word embeddings and get positions. Words of `init` beyond `num_context` stay in every text,
    frozen: `template` has them.

    Args:
        text: the text encoder.
        num_context: prompts n a block.
        depth: how many blocks have them, 1 or more.
        init: words whose embeddings the prompts of block 0 begin as; None for N(0, 0.02), as all others do.

    Attributes:
        values: (depth, n, D).
        template: what class names are put in behind the prompts.

    Raises:
        VptError: no place for so many, or words that are not `num_context` tokens.
    """

    def __init__(self, text: TextEncoder, *, num_context: int, depth: int, init: str | None) -> None:
        super().__init__()
        if num_context + text.start + 2 > text.context_length:
            raise VptError(f"num_context={num_context} leaves no place for words: a text has {text.context_length}.")
        self.num_context = num_context
        self.enters = frozenset(range(1, depth))
        first, self.template = (None, "{}.") if init is None else initial_words(text, init, num_context)
        values = torch.randn(depth, num_context, text.width) * 0.02
        if first is not None:
            values[0] = first
        self.values = nn.Parameter(values)

    def context(self, features: Tensor | None) -> Tensor:
        """Text prompts of block 0, (1, n, D)."""
        return self.values[:1]

    def prompts(self, layer: int, classes: Tensor | None = None) -> Tensor:
        """Text prompts of block `layer`, (1, n, D)."""
        return self.values[layer : layer + 1]

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, Tensor]:
        """All of them taken apart once, so that their gradients are put together once."""
        return dict(zip(sorted(self.enters), self.values[1:].to(dtype).split(1), strict=True)) if self.enters else {}


class Coupled(ImagePrompts):
    """Image prompts that one linear layer a block makes of the text prompts (Khattak et al., CVPR 2023, section 3.2).

    They stand behind the patches, and those of block 0 go through CLIP's norm.

    Args:
        tower: the image encoder, of any width.
        of: the text prompts, whose values are (J, n, width of texts).
    """

    before_norm = True
    behind = True

    def __init__(self, tower: Encoder, of: DeepText) -> None:
        super().__init__(tower)
        depth, self._count, width = of.values.shape
        self.enters = frozenset(range(depth))
        # The prompts are a part of their own, and not saved or counted with this one.
        self._of = (of,)
        # In the authors' code the layers of blocks 1 to J-1 begin as copies of one.
        deep = nn.Linear(width, tower.width)
        copies = [copy.deepcopy(deep) for _ in range(depth - 1)]
        self.project = nn.ModuleList([nn.Linear(width, tower.width), *copies])

    def prompts(self, layer: int, batch: int) -> Tensor:
        """Image prompts of block `layer`, from its text prompts, (1, n, D)."""
        projected: Tensor = self.project[layer](self._of[0].prompts(layer))
        return projected

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, Tensor]:
        """Text prompts taken apart once, and what is made of them brought to `dtype` at once."""
        rows = self._of[0].values.split(1)
        made = torch.cat([project(row) for project, row in zip(self.project, rows, strict=True)]).to(dtype).split(1)
        return {layer: self._normed(layer, row) for layer, row in enumerate(made)}

    def count(self) -> int:
        """n."""
        return self._count
