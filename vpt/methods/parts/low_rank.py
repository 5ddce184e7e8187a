"""Matrices of low rank, added to the linear stages of a block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change
from vpt.methods.parts.encoders import Encoder, TextEncoder


class LowRank(Change):
    """Queries, keys and values of every block, W y, become W y + scale · B A dropout(y).

    They are added to what the projections give, and W stays as it is: in memory, in the file of the backbone, and in
    other models that share it. In training, tokens that all texts begin with draw one dropout mask for all of them.

    Args:
        encoder: that is changed.
        on: "image" or "text".
        rank: of the added matrices.
        scale: of what they add.
        dropout: of the tokens that they are applied to, a mask for each projection.
        projections: which of q, k and v are added to.
        name: of the method, for errors.
        shared: all projections have one A, and one mask of dropout.

    Attributes:
        down: A, (blocks, projections or 1, rank, D); uniform between ± 1 / √D at first, which is Kaiming's for a = √5.
        up: B, (blocks, projections, D, rank); zero at first.

    Raises:
        VptError: an encoder with a block that cannot be added to.
    """

    linear = True

    def __init__(
        self,
        encoder: Encoder | TextEncoder,
        on: Literal["image", "text"],
        name: str,
        *,
        rank: int,
        scale: float,
        dropout: float,
        projections: str,
        shared: bool = False,
    ) -> None:
        super().__init__()
        for layer in range(encoder.depth):
            why = encoder.why_unchanged(layer)
            if why is not None:
                raise VptError(f"{name} cannot be added to block {layer} of the {on} encoder: {why}.")
        self.on = on
        self.claims = frozenset(f"{on} {projection}" for projection in projections)
        self.scale, self.dropout, self.projections = scale, dropout, projections
        depth, width = encoder.depth, encoder.width
        sets = 1 if shared else len(projections)
        self.down = nn.Parameter(torch.empty(depth, sets, rank, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(depth, len(projections), width, rank))

    def added(self, y: Tensor, layer: int, names: str) -> Tensor:
        """B A dropout(y) of normed tokens (B, N, D) for n projections, one product for all of them: (n, B, N, D).

        Each projection draws a mask of its own.

        Args:
            y: tokens.
            layer: of the block.
            names: of those projections, in the order of `projections`.
        """
        first = self.projections.index(names[0])
        up = self.up[layer, first : first + len(names)].to(y.dtype)
        down = (self.down[layer] if len(self.down[layer]) == 1 else self.down[layer, first : first + len(names)]).to(y)
        inputs = F.dropout(y.flatten(0, 1).expand(len(down), -1, -1), self.dropout if self.training else 0.0)
        return (inputs @ down.transpose(1, 2) @ up.transpose(1, 2)).unflatten(1, y.shape[:2])

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned in its projections."""
        return with_added(block, self.projections, lambda y, names: self.added(y, layer, names), self.scale)


def with_added(block: Any, projections: str, added: Callable[[Tensor, str], Tensor], scale: float = 1.0) -> Any:
    """An opened block with something added to its queries, keys and values.

    Args:
        block: opened.
        projections: which of q, k and v are added to, in this order.
        added: normed tokens (B, N, D), and the names of those that are asked for, to what is added, (n, B, N, D).
        scale: of it.
    """

    def plus(projected: tuple[Tensor, ...], y: Tensor, names: str) -> tuple[Tensor, ...]:
        given = [name for name in projections if name in names]
        if not given:
            return projected
        learned = added(y, "".join(given))
        if len(projected) == 1 and given == list(names):
            # One product gave them all, (B, N, n, heads, d).
            return (torch.add(projected[0], learned.movedim(0, 2).view_as(projected[0]), alpha=scale),)
        sums = dict(zip(names, projected if len(projected) > 1 else projected[0].unbind(2), strict=True))
        for name, change in zip(given, learned, strict=True):
            sums[name] = torch.add(sums[name], change.view_as(sums[name]), alpha=scale)
        return tuple(sums.values())

    return replace(
        block,
        query_key_value=lambda y: plus(block.query_key_value(y), y, "qkv"),
        key_value=lambda y: plus(block.key_value(y), y, "kv"),
    )
