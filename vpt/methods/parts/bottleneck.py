"""Two small linear layers with an activation between them, added at one place of every block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change
from vpt.methods.parts.encoders import Encoder

Function = Callable[[Tensor], Tensor]
Place = Literal["beside mlp", "attention", "mlp", "block"]

# What each place is called in messages.
PLACES = {
    "beside mlp": "branch beside the image MLP",
    "attention": "adapter of what image attention adds",
    "mlp": "adapter of what the image MLP adds",
    "block": "adapter behind the image blocks",
}


class Bottleneck(Change):
    """A(x) = scale · (U dropout(act(D x + d)) + u) of every token, at one place of every block of the image encoder.

    With x the tokens after attention, and m what the MLP adds to them, a block gives:

    - "beside mlp": x + m + A(x);
    - "attention": as before, but attention adds a + A(a) in place of a;
    - "mlp": x + m + A(m);
    - "block": z + A(z), with z what the block gave.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        place: one of these.
        rank: of D and U.
        act: between them.
        scale: of what is added, a number; None for a learned one of each channel, 1 at first.
        dropout: of what U is applied to.
        drop_path: share of the images to which a block adds nothing, in training.
        init: "zero": D by Kaiming's uniform initialisation for a = √5, biases and U zero; "normal": both N(0, 0.01),
            cut off at ± 0.02, biases zero.

    Attributes:
        down: D, (blocks, rank, width), with down_bias d, (blocks, rank).
        up: U, (blocks, width, rank), with up_bias u, (blocks, width).
        scales: (blocks, width), where they are learned.

    Raises:
        VptError: an option out of its range, or an encoder with a block that is not opened.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        place: Place,
        rank: int,
        act: Function = F.gelu,
        scale: float | None = 1.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        init: Literal["zero", "normal"] = "zero",
    ) -> None:
        super().__init__()
        check_rank(rank)
        check_share(dropout=dropout, drop_path=drop_path)
        check_opened(encoder, name)
        self.claims = frozenset({PLACES[place]})
        self.place, self.act, self.scale = place, act, scale
        self.dropout, self.drop_path = dropout, drop_path
        depth, width = encoder.depth, encoder.width
        self.down = nn.Parameter(torch.empty(depth, rank, width))
        self.down_bias = nn.Parameter(torch.zeros(depth, rank))
        self.up = nn.Parameter(torch.zeros(depth, width, rank))
        self.up_bias = nn.Parameter(torch.zeros(depth, width))
        self.scales = nn.Parameter(torch.ones(depth, width)) if scale is None else None
        if init == "normal":
            for weight in (self.down, self.up):
                nn.init.trunc_normal_(weight, std=0.01, a=-0.02, b=0.02)
        else:
            nn.init.uniform_(self.down, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def added(self, layer: int, x: Tensor) -> Tensor:
        """A(x) in block `layer` for tokens (B, N, D)."""
        down, down_bias, up, up_bias = (
            part[layer].to(x.dtype) for part in (self.down, self.down_bias, self.up, self.up_bias)
        )
        hidden = F.dropout(self.act(F.linear(x, down, down_bias)), self.dropout, self.training)
        found = F.linear(hidden, up, up_bias)
        if self.drop_path and self.training:
            kept = torch.full((x.shape[0], 1, 1), 1 - self.drop_path, dtype=x.dtype, device=x.device).bernoulli()
            found = found * (kept / (1 - self.drop_path))
        if self.scale is not None:
            return found if self.scale == 1 else found * self.scale
        return found if self.scales is None else found * self.scales[layer].to(x.dtype)

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned in its place."""

        def behind(x: Tensor) -> Tensor:
            return x + self.added(layer, x)

        if self.place == "beside mlp":
            return replace(block, feed=lambda x: block.feed(x) + self.added(layer, x))
        if self.place == "attention":
            return replace(block, out=_ending(block.out, behind))
        if self.place == "mlp":
            return replace(block, feed=_ending(block.feed, behind))
        return replace(block, post2=_then(block.post2, behind))


def _ending(stage: Any, last: Function) -> Any:
    """A stage of a block, `vpt.towers.stages.Out` or `Mlp` or a function, with `last` behind it."""
    if is_dataclass(stage):
        whole: Any = stage
        return whole.ending(last)
    return lambda *given: last(stage(*given))


def _then(first: Function | None, second: Function) -> Function:
    return second if first is None else lambda x: second(first(x))


def check_opened(encoder: Encoder, name: str, on: str = "image") -> None:
    """Nothing, where every block of an encoder is opened.

    Raises:
        VptError: one is not.
    """
    for layer in range(encoder.depth):
        why = encoder.why_unopened(layer)
        if why is not None:
            raise VptError(f"{name} cannot be added to block {layer} of the {on} encoder: {why}.")


def check_rank(rank: int) -> None:
    """Nothing, or an error where a rank leaves nothing to learn."""
    if rank < 1:
        raise VptError(f"rank={rank} leaves nothing to learn: give 1 or more.")


def check_share(**shares: float) -> None:
    """Nothing, or an error where a dropout is no share below 1."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise VptError(f"{name}={share} must be at least 0 and below 1.")
