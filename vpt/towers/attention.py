"""Attention to tokens and to contexts, which many rows of a batch may share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Attended:
    """A context as the attention of one block takes it: keys and values, (G, heads, M, d) each."""

    keys: Tensor
    values: Tensor


def attend(
    q: Tensor, k: Tensor, v: Tensor, contexts: Sequence[Attended], mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """What queries get of contexts and of their own keys and values, (B, heads, N, d) each: (B, heads, N, d).

    Args:
        q: queries.
        k: their own keys.
        v: their own values.
        contexts: further keys and values, each row of which is shared by B / G neighbours of the batch.
        mask: as `Tower.advance` takes it.
        dropout: of attention weights.
    """
    if mask is not None:
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
    if _is_worth_sharing(q, k, contexts):
        return _attend_shared(q, k, v, contexts, mask, dropout)
    k = torch.cat([*(shared(context.keys, len(q)) for context in contexts), k], dim=2)
    v = torch.cat([*(shared(context.values, len(q)) for context in contexts), v], dim=2)
    # A view of q would keep a fused q, k, v of every token alive until the backward pass.
    return F.scaled_dot_product_attention(q.contiguous(), k, v, attn_mask=mask, dropout_p=dropout)


def _is_worth_sharing(q: Tensor, k: Tensor, contexts: Sequence[Attended]) -> bool:
    """Whether the weights of few queries are fewer numbers than copies of shared keys and values would be."""
    copied = sum(context.keys.shape[2] for context in contexts if len(context.keys) < len(q))
    columns = k.shape[2] + sum(context.keys.shape[2] for context in contexts)
    return q.shape[2] * columns < 2 * copied * q.shape[3]


def _attend_shared(
    q: Tensor, k: Tensor, v: Tensor, contexts: Sequence[Attended], mask: Tensor | None, dropout: float
) -> Tensor:
    """The same without copies of what rows share: these rows' queries stand one after another before its keys."""
    keys, values = [*(context.keys for context in contexts), k], [*(context.values for context in contexts), v]
    q = q * q.shape[3] ** -0.5
    scores = torch.cat([_each(q, of.transpose(2, 3)) for of in keys], dim=-1)
    # Half precision is not enough to sum up weights in, and the fused kernels do not do so either.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1).to(v.dtype)
    weights = F.dropout(weights, dropout) if dropout else weights
    parts = weights.split([of.shape[2] for of in values], dim=-1)
    return torch.stack([_each(part, of) for part, of in zip(parts, values, strict=True)]).sum(0)


def _each(rows: Tensor, by: Tensor) -> Tensor:
    """Products of rows (B, heads, N, m) by (G, heads, m, n), each for B / G neighbours: (B, heads, N, n)."""
    groups, batch = len(by), len(rows)
    if groups == batch:
        return rows @ by
    together = rows.unflatten(0, (groups, -1)).transpose(1, 2).flatten(2, 3)
    return (together @ by).unflatten(2, (batch // groups, -1)).transpose(1, 2).flatten(0, 1)


def shared(rows: Tensor, batch: int) -> Tensor:
    """G rows (G, …) for a batch of B, each for B / G neighbours, as (B, …)."""
    if len(rows) == 1:
        return rows.expand(batch, *rows.shape[1:])
    return rows if len(rows) == batch else rows.repeat_interleave(batch // len(rows), dim=0)


def heads_of(tokens: Tensor, num_heads: int) -> Tensor:
    """(B, N, heads · d) to (B, heads, N, d)."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)
