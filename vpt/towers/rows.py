"""Rows in which attention takes many short texts: how long they are, and what all of them begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Lengths of rows are multiples of so many tokens, which fused kernels of attention want of a mask's columns.
MULTIPLE = 16

# So many tokens at once are held against each other by fused kernels of attention on a GPU.
TILE = 64

# No row is longer, unless a text is.
LONGEST = 512

# Operations of products that take as long as it takes to ask for rows of attention alone, whatever their size.
ASKED = 6_000_000


class Rows(NamedTuple):
    """How tokens that go through all else as one sequence of T are taken by attention: in R rows of L places.

    Attributes:
        number: of rows, R.
        tokens: which of T stands at each place, (R · L,); where none does, any, at which nobody looks.
        places: a place of R · L of each token, (T,); what all rows begin with has others too, and is the same in each.
    """

    number: int
    tokens: Tensor
    places: Tensor

    def spread(self, x: Tensor) -> Tensor:
        """(B, T, …) to rows (B · R, L, …)."""
        return x.index_select(1, self.tokens).unflatten(1, (self.number, -1)).flatten(0, 1)

    def gathered(self, x: Tensor) -> Tensor:
        """Rows (B · R, L, …) to (B, T, …)."""
        return x.unflatten(0, (-1, self.number)).flatten(1, 2).index_select(1, self.places)

    def to(self, device: torch.device) -> Rows:
        """The same on `device`."""
        return self._replace(
            tokens=self.tokens.to(device, non_blocking=True), places=self.places.to(device, non_blocking=True)
        )


def rows_for(
    counts: Sequence[int], shared: int, width: int, *, on_gpu: bool = False, alike: bool = False
) -> tuple[int, bool]:
    """Tokens of a row, and whether rows are those of attention alone: what all texts begin with is then there once.

    They are those with which products, attention within rows and what stands in each of them are the least together.
    In a training step a token costs 48 · width² operations in products, and 14 · width for each token that it is held
    against, as its scores are computed again in the backward pass; these take half as long again, each. A place of rows
    that are attention's alone counts as a thirteenth of a token's products: copies, and what is kept of them. A GPU,
    whose products are faster, takes tokens in tiles, and four times as long for operations of attention; as it is asked
    for as little as can be, texts stand in rows throughout there.

    Args:
        counts: tokens that each text has of its own.
        shared: tokens that all begin with.
        width: size of a token.
        on_gpu: where they are advanced.
        alike: other texts, which may begin with fewer, are to have rows of the same shape.
    """
    total, most = sum(counts), max(counts, default=0)

    def price(choice: tuple[int, bool]) -> int:
        length, once = choice
        if on_gpu:
            return -(-total // (length - shared)) * length * (16 * width + 20 * -(-length // TILE) * TILE)
        # A row holds so many middling texts.
        in_row = max(1, (length - shared) * len(counts) // max(1, total))
        places = -(-len(counts) // in_row) * length
        if once:
            return (shared + total) * 16 * width + places * (7 * length + 5 * width // 4) + ASKED // (3 * width)
        return places * (16 * width + 7 * length)

    shortest, longest = (-(-max(size, 1) // MULTIPLE) * MULTIPLE for size in (shared + most, shared + total))
    lengths = range(shortest, min(longest, max(LONGEST, shortest)) + 1, MULTIPLE)
    forms = (False,) if on_gpu or alike else (False, True)
    return min(((length, once) for once in forms for length in lengths), key=price)
