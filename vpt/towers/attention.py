"""Attention to tokens and to contexts, which many rows of a batch may share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

# With a mask, so many tokens are held against each other faster by one kernel, and another back, than by those that
# torch prefers on newer GPUs, of which there are six.
SHORT = 64
IF_SHORT = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


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
        k = joined([context.keys for context in contexts], k)
        v = joined([context.values for context in contexts], v)
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    if mask is not None:
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
        if q.is_cuda and k.shape[2] <= SHORT:
            with sdpa_kernel(IF_SHORT):
                return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2).flatten(2)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2).flatten(2)


def joined(contexts: Sequence[Tensor], own: Tensor) -> Tensor:
    """Contexts (G, M, …), each row for B / G neighbours, before what is each row's own (B, L, …)."""
    groups = max(context.shape[0] for context in contexts)
    # Rows of a group side by side, so that what they share is copied into its place and nowhere else.
    own = own.unflatten(0, (groups, -1))
    parts = [shared(context, groups)[:, None].expand(-1, own.shape[1], -1, -1, -1) for context in contexts]
    return torch.cat([*parts, own], dim=2).flatten(0, 1)


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
