"""Tokens that are read, picked from rows of tokens whose others are merely attended to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vpt.held import held

# Rows of tokens (B, L, …) to some of them (B, N, …).
Pick = Callable[[Tensor], Tensor]

# Which tokens are picked, as numbers on a device; so many at most are kept.
_PLACES: dict[tuple[int, int, torch.device], Tensor] = {}
MOST = 256


# As with `stages.Out`.
@dataclass(frozen=True, eq=False)
class Neighbours:
    """Picks tokens that stand side by side, the same of each row.

    Attributes:
        first: the first of them.
        count: how many.
    """

    first: int
    count: int

    def __call__(self, x: Tensor) -> Tensor:
        """(B, L, …) to (B, count, …)."""
        return x[:, self.first : self.first + self.count]


def beside(x: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
    """`x` and what is picked of it, where both are used: the gradient is put together in one operation.

    Otherwise it would be two: one that gives what was picked the size of `x`, and a sum.
    """
    traced = torch.compiler.is_compiling() or type(x) is not Tensor
    if traced or not isinstance(pick, Neighbours) or not (x.requires_grad and torch.is_grad_enabled()):
        return x, pick(x)
    places = _places(pick, x.device)
    if places is None:
        return x, pick(x)
    found: tuple[Tensor, Tensor] = _Beside.apply(x, pick, places)
    return found


def first_token(x: Tensor) -> Tensor:
    """The first of tokens (B, N, D) as (B, D): where there is no other a view of it, whose gradient needs no room."""
    return x.squeeze(1) if x.shape[1] == 1 else x[:, 0]


class _Beside(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, pick: Neighbours, places: Tensor) -> tuple[Tensor, Tensor]:
        return x.view_as(x), pick(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Neighbours, Tensor], output: Any) -> None:
        ctx.places = inputs[2]
        # Of two uses one may have no gradient.
        ctx.set_materialize_grads(False)
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, whole: Tensor | None, picked: Tensor | None) -> tuple[Tensor | None, None, None]:
        if picked is None:
            return whole, None, None
        whole = picked.new_zeros(ctx.shape) if whole is None else whole
        return whole.index_add(1, ctx.places, picked), None, None


def _places(pick: Neighbours, device: torch.device) -> Tensor | None:
    """Numbers of the tokens, made once; None where they would belong to a graph that is being captured."""
    key = (pick.first, pick.count, device)
    if key not in _PLACES:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None
        if len(_PLACES) >= MOST:
            _PLACES.clear()
        _PLACES[key] = torch.arange(pick.first, pick.first + pick.count, device=device)
    return held(_PLACES[key])
