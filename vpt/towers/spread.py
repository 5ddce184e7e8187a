"""Rows of tokens and the contexts that they share, projected as one sequence and then laid out for attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vpt.towers.attention import joined, separate
from vpt.towers.picking import Neighbours


@dataclass(frozen=True)
class Packing:
    """How rows of tokens and the contexts that they attend to lie one after another in one sequence of T tokens.

    Attributes:
        rows: (B, L) of the tokens' own rows, which come first.
        contexts: (G, M) of each context that follows.
    """

    rows: torch.Size
    contexts: tuple[torch.Size, ...]

    @property
    def count(self) -> int:
        """Tokens of the rows, B · L; `torch.Size.numel` would make a constant of B where a graph is traced."""
        return math.prod(self.rows)

    def own(self, packed: Tensor) -> Tensor:
        """The tokens' own rows, (B, L, …), of (T, …)."""
        return packed[: self.count].unflatten(0, self.rows)

    def attended(self, packed: Tensor) -> list[Tensor]:
        """What the rows attend to beside themselves, (G, M, …) each, of (T, …)."""
        parts = packed[self.count :].split([size.numel() for size in self.contexts])
        return [part.unflatten(0, size) for part, size in zip(parts, self.contexts, strict=True)]

    def spread(
        self, *packed: Tensor, asks: Neighbours | None = None, apart: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of each row (B, N, heads, d), and keys and values of all that it attends to (B, M + L, heads, d).

        Args:
            packed: queries, keys and values, (T, heads, d) each, or one (T, 3, heads, d).
            asks: the tokens of a row whose queries they are; all L by default.
            apart: keys are not kept as long as values, and therefore do not share their memory.
        """
        if torch.compiler.is_compiling():
            return self.plain(asks, *packed)
        found: tuple[Tensor, Tensor, Tensor] = _Spread.apply(self, asks, apart, *packed)
        return found

    def plain(self, asks: Neighbours | None, *packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The definition of `spread`, which compilers make one kernel of."""
        query, *others = separate(packed)
        key, value = (joined(self.attended(each), self.own(each)) for each in others)
        query = self.own(query)
        query = query if asks is None else asks(query)
        # A view of a part would keep all of it alive until the backward pass.
        part = len(packed) == 1 or asks is not None
        return query.clone(memory_format=torch.contiguous_format) if part else query, key, value

    def written(self, asks: Neighbours | None, apart: bool, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`plain` of one (T, 3, heads, d), keys and values side by side where they are not `apart`."""
        query = self.own(packed[:, 0])
        query = query if asks is None else asks(query)
        laid = [self._laid(each) for each in packed[:, 1:].split(1 if apart else 2, dim=1)]
        key, value = (each for pair in laid for each in pair.unbind(2))
        return copy(query.new_empty(query.shape), query), key, value

    def _laid(self, packed: Tensor) -> Tensor:
        """All that each row attends to, (B, M + L, …), of (T, …)."""
        counts = [*(count for _, count in self.contexts), self.rows[1]]
        found = packed.new_empty(self.rows[0], sum(counts), *packed.shape[1:])
        *places, own = found.split(counts, dim=1)
        for place, context in zip(places, self.attended(packed), strict=True):
            copy(place.unflatten(0, (len(context), -1)), context[:, None])
        copy(own, self.own(packed))
        return found


class _Spread(torch.autograd.Function):
    """`Packing.spread`, whose backward pass writes each gradient once and in its place.

    Step by step it would be a sum, a copy and a concatenation for each part.
    """

    @staticmethod
    def forward(
        ctx: Any, packing: Packing, asks: Neighbours | None, apart: bool, *packed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.packing, ctx.asks = packing, asks
        ctx.like = [(each.shape, each.dtype, each.device) for each in packed]
        return packing.written(asks, apart, *packed) if len(packed) == 1 else packing.plain(asks, *packed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packing: Packing = ctx.packing
        asks: Neighbours | None = ctx.asks
        found = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.like]
        if torch.is_grad_enabled():
            # It is linear, so that of its inputs only the shape counts where it is to be differentiated once more.
            given = [each.zero_().requires_grad_() for each in found]
            return (
                None,
                None,
                None,
                *torch.autograd.grad(packing.plain(asks, *given), given, gradients, create_graph=True),
            )
        query, *others = separate(found)
        of_query, *of_others = gradients
        of_own = [of_query, *(gradient[:, -packing.rows[1] :] for gradient in of_others)]
        # A context asks for nothing, and of the tokens those that are picked.
        (query[packing.count :] if asks is None else query).zero_()
        asked = packing.own(query) if asks is None else asks(packing.own(query))
        for part, gradient in zip([asked, *map(packing.own, others)], of_own, strict=True):
            copy(part, gradient)
        for packed, gradient in zip(others, of_others, strict=True):
            start = 0
            for part in packing.attended(packed):
                of_part = gradient[:, start : start + part.shape[1]].unflatten(0, (len(part), -1))
                start += part.shape[1]
                torch.sum(of_part, 1, out=part)
        return None, None, None, *found


def copy(place: Tensor, of: Tensor) -> Tensor:
    """`place`, filled with `of`, (…, d) each: eight bytes at once where they lie side by side in both.

    A GPU copies what has gaps number by number, which is half as fast where each has two bytes.
    """
    of = of.expand_as(place)
    if of.dtype == place.dtype and _in_eights(of) and _in_eights(place):
        place.view(torch.int64).copy_(of.view(torch.int64))
    else:
        place.copy_(of)
    return place


def _in_eights(x: Tensor) -> bool:
    """Whether each row (…, d) may be looked at as one of numbers of eight bytes."""
    *steps, last = x.stride()
    return last == 1 and math.gcd(x.shape[-1], x.storage_offset(), *steps) * x.element_size() % 8 == 0
