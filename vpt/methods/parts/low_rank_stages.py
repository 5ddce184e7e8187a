"""Matrices of low rank, added to the output projection and the MLP of a block."""

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

# What the stages are called, and in messages.
STAGES = {"o": "output projection", "up": "first layer of the MLP", "down": "second layer of the MLP"}


class LowRankStage(Change):
    """One linear stage of every block, W h, becomes W h + scale · B A dropout(h).

    Args:
        encoder: that is changed.
        on: "image" or "text".
        stage: "o", "up" or "down", as in `STAGES`.
        name: of the method, for errors.
        rank: of the added matrices.
        scale: of what they add.
        dropout: of what they are applied to.

    Attributes:
        down: A, (blocks, rank, inputs); uniform between ± 1 / √inputs at first, which is Kaiming's for a = √5.
        up: B, (blocks, outputs, rank); zero at first.

    Raises:
        VptError: an encoder with a block that cannot be added to.
    """

    linear = True

    def __init__(
        self,
        encoder: Encoder | TextEncoder,
        on: Literal["image", "text"],
        stage: Literal["o", "up", "down"],
        name: str,
        *,
        rank: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.on, self.stage, self.scale, self.dropout = on, stage, scale, dropout
        self.claims = frozenset({f"{on} {STAGES[stage]}"})
        sizes = [sizes_of(encoder, layer, stage, on, name) for layer in range(encoder.depth)]
        (inputs, outputs), depth = sizes[0], encoder.depth
        self.down = nn.Parameter(torch.empty(depth, rank, inputs).uniform_(-1, 1) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(depth, outputs, rank))

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned in its stage."""
        stage: Callable[[Tensor], Tensor] = stage_of(block, self.stage)

        def plus(h: Tensor) -> Tensor:
            down, up = (part[layer].to(h.dtype) for part in (self.down, self.up))
            dropped = F.dropout(h, self.dropout if self.training else 0.0)
            return torch.add(stage(h), dropped @ down.T @ up.T, alpha=self.scale)

        return with_stage(block, self.stage, plus)


def stage_of(block: Any, stage: str) -> Any:
    """A linear stage of an opened block: "o", "up" or "down"."""
    return block.out.project if stage == "o" else getattr(block.feed, stage)


def with_stage(block: Any, stage: str, function: Callable[[Tensor], Tensor]) -> Any:
    """An opened block with another function for one of its linear stages."""
    if stage == "o":
        return replace(block, out=replace(block.out, project=function))
    return replace(block, feed=replace(block.feed, **{stage: function}))


def sizes_of(encoder: Encoder | TextEncoder, layer: int, stage: str, on: str, name: str) -> tuple[int, int]:
    """Inputs and outputs of a linear stage of a block.

    Raises:
        VptError: the block does not show it.
    """
    found = encoder.sizes(layer)
    if stage not in found:
        raise VptError(
            f"{name} cannot be added to the {STAGES[stage]} of block {layer} of the {on} encoder, which is not opened: "
            "choose among q, k and v, or another backbone."
        )
    return found[stage]
