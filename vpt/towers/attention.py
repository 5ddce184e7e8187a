"""Attention to tokens and to contexts, which many rows of a batch may share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vpt.towers.picking import Neighbours


@dataclass(frozen=True)
class Attended:
    """A context as the attention of one block takes it: keys and values, (G, M, heads, d) each.

    Each of the G rows is shared by B / G neighbours of a batch of B.
    """

    keys: Tensor
    values: Tensor


def attend(
    q: Tensor, k: Tensor, v: Tensor, contexts: Sequence[Attended], mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """What queries (B, N, heads, d) get of contexts and of keys and values of their own row: (B, N, heads · d).

    Args:
        q: queries.
        k: keys of their own rows, (B, L, heads, d).
        v: values, likewise.
        contexts: further keys and values, which come first.
        mask: as `Tower.advance` takes it.
        dropout: of attention weights.
    """
    if contexts:
        # A view of a fused projection would keep all of it alive until the backward pass.
        q = q.contiguous() if torch.is_grad_enabled() else q
        k = _joined([context.keys for context in contexts], k)
        v = _joined([context.values for context in contexts], v)
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    if mask is not None:
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2).flatten(2)


def _joined(contexts: Sequence[Tensor], own: Tensor) -> Tensor:
    """Contexts (G, M, …), each row for B / G neighbours, before what is each row's own (B, L, …)."""
    groups = max(context.shape[0] for context in contexts)
    # Rows of a group side by side, so that what they share is copied into its place and nowhere else.
    own = own.unflatten(0, (groups, -1))
    parts = [shared(context, groups)[:, None].expand(-1, own.shape[1], -1, -1, -1) for context in contexts]
    return torch.cat([*parts, own], dim=2).flatten(0, 1)


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

    def spread(self, *packed: Tensor, asks: Neighbours | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of each row (B, N, heads, d), and keys and values of all that it attends to (B, M + L, heads, d).

        Args:
            packed: queries, keys and values, (T, heads, d) each, or one (T, 3, heads, d).
            asks: the tokens of a row whose queries they are; all L by default.
        """
        if torch.compiler.is_compiling():
            return self._spread(asks, *packed)
        found: tuple[Tensor, Tensor, Tensor] = _Spread.apply(self, asks, *packed)
        return found

    def _spread(self, asks: Neighbours | None, *packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, *others = separate(packed)
        key, value = (_joined(self.attended(each), self.own(each)) for each in others)
        query = self.own(query)
        query = query if asks is None else asks(query)
        # A view of a part would keep all of it alive until the backward pass.
        part = len(packed) == 1 or asks is not None
        return query.clone(memory_format=torch.contiguous_format) if part else query, key, value


class _Spread(torch.autograd.Function):
    """`Packing.spread`, whose backward pass writes each gradient once and in its place.

    Step by step it would be a sum, a copy and a concatenation for each part.
    """

    @staticmethod
    def forward(ctx: Any, packing: Packing, asks: Neighbours | None, *packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.packing, ctx.asks = packing, asks
        ctx.like = [(each.shape, each.dtype, each.device) for each in packed]
        return packing._spread(asks, *packed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packing: Packing = ctx.packing
        asks: Neighbours | None = ctx.asks
        found = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.like]
        query, *others = separate(found)
        of_query, *of_others = gradients
        of_own = [of_query, *(gradient[:, -packing.rows[1] :] for gradient in of_others)]
        # A context asks for nothing, and of the tokens those that are picked.
        (query[packing.count :] if asks is None else query).zero_()
        if asks is None and len(found) == 1:
            torch.stack(of_own, dim=2, out=packing.own(found[0]))
        else:
            asked = packing.own(query) if asks is None else asks(packing.own(query))
            for part, gradient in zip([asked, *map(packing.own, others)], of_own, strict=True):
                part.copy_(gradient)
        for packed, gradient in zip(others, of_others, strict=True):
            start = 0
            for part in packing.attended(packed):
                of_part = gradient[:, start : start + part.shape[1]].unflatten(0, (len(part), -1))
                start += part.shape[1]
                torch.sum(of_part, 1, out=part)
        return None, None, *found


def separate(projected: Sequence[Tensor]) -> Sequence[Tensor]:
    """Queries, keys and values, whether three tensors or one."""
    return projected if len(projected) > 1 else projected[0].unbind(-3)


def shared(rows: Tensor, batch: int) -> Tensor:
    """G rows (G, …) for a batch of B, each for B / G neighbours, as (B, …)."""
    # Not by `len`, at which `torch.export` takes the size of a batch for a constant.
    groups = rows.shape[0]
    if groups == 1:
        return rows.expand(batch, *rows.shape[1:])
    return rows if groups == batch else rows.repeat_interleave(batch // groups, dim=0)


def heads_of(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, N, heads · d) to (B, N, heads, d)."""
    return tokens.unflatten(-1, (num_heads, -1))


def together(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """A mask, (L, M + L) or (B, L, M + L), and a bias of each head, (heads, L, M + L), as one."""
    if bias is None:
        return mask
    bias = bias[None]
    if mask is None:
        return bias
    mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask
