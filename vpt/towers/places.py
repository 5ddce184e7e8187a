"""Where the tokens of an image stand, for blocks whose attention depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Where the patches of an image stand among the tokens of a sequence.

    Attributes:
        height: patches from top to bottom.
        width: from left to right, which is how they follow each other.
        start: tokens before the first patch, prefix and prompts.
    """

    height: int
    width: int
    start: int


@dataclass(frozen=True)
class Places:
    """The places of a sequence's tokens: some are an image's own, in its order; the others, prompts, have no place.

    Attributes:
        count: n, the image's own tokens, prefix and patches.
        table: what the tower's blocks are told of each of them, its own affair: angles of a rotation, or nothing.
        index: which of the n each token of the sequence is, (L,), and n for one without a place; None where the n come
            first and all that follow have none.
    """

    count: int
    table: Tensor | None = None
    index: Tensor | None = None

    def of(self, length: int, like: Tensor) -> Tensor:
        """`index` of a sequence of `length` tokens, on the device of `like`."""
        if self.index is not None:
            return self.index.to(like.device)
        return torch.arange(length, device=like.device).clamp(max=self.count)

    def plain(self, length: int, strip: Callable[[Tensor], Tensor]) -> Places:
        """The same image's tokens among `length` tokens, of which `strip` leaves the image's own."""
        if length <= self.count:
            return self
        kept = strip(torch.arange(length)[None, :, None])[0, :, 0]
        index = torch.full((length,), self.count)
        index[kept] = torch.arange(len(kept))
        return replace(self, index=index)

    def behind(self, context: int, length: int, like: Tensor) -> Places:
        """With so many tokens of context, which have no place, before a sequence of `length`."""
        without = torch.full((context,), self.count, device=like.device)
        return replace(self, index=torch.cat([without, self.of(length, like)])) if context else self

    def spread(self, bias: Tensor, length: int) -> Tensor:
        """Biases of the image's own tokens among each other, (heads, n, n), in a sequence of `length`; 0 of all others.

        Returns:
            (heads, length, length).
        """
        if self.index is None and length == self.count:
            return bias
        index = self.of(length, bias)
        return F.pad(bias, (0, 1, 0, 1)).index_select(-2, index).index_select(-1, index)
