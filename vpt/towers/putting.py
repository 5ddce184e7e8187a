"""Learned vectors put among tokens, in rows that share them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def put(x: Tensor, vectors: Tensor, start: int) -> Tensor:
    """Tokens (G · R, L, D), of which those from `start` on are vectors (G, K, D), each set in R neighbours."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _placed(x, vectors, start)
    found: Tensor = _Put.apply(x, vectors, start)
    return found


def _placed(x: Tensor, vectors: Tensor, start: int) -> Tensor:
    rows = vectors[:, None].expand(-1, len(x) // len(vectors), -1, -1).flatten(0, 1)
    return torch.cat([x[:, :start], rows, x[:, start + rows.shape[1] :]], dim=1)


class _Put(torch.autograd.Function):
    """`_placed`, whose gradient is the one that came, with nothing where vectors stand.

    Step by step the tokens before the vectors and those behind them would each be put among zeros, and both added.
    """

    @staticmethod
    def forward(x: Tensor, vectors: Tensor, start: int) -> Tensor:
        return _placed(x, vectors, start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        _, vectors, start = inputs
        ctx.groups, ctx.there = len(vectors), slice(start, start + vectors.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        of_x = of_vectors = None
        if ctx.needs_input_grad[0]:
            of_x = gradient.clone()
            of_x[:, ctx.there].zero_()
        if ctx.needs_input_grad[1]:
            of_vectors = gradient[:, ctx.there].unflatten(0, (ctx.groups, -1)).sum(1)
        return of_x, of_vectors, None
