"""Adapters beside blocks of two encoders that share a layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change, Part
from vpt.methods.parts.encoders import Encoder, TextEncoder


class Bridge(Part):
    """One layer for each pair of blocks of the image and the text encoder.

    Args:
        blocks: how many pairs.
        rank: inputs and outputs.
    """

    def __init__(self, blocks: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.layers = nn.ModuleList([_linear(rank, rank) for _ in range(blocks)])


class BridgedAdapters(Change):
    """To what a block adds, scale · U ReLU(S ReLU(D y)) of the normed tokens y that attention is given.

    Args:
        encoder: that is changed, in as many of its last blocks as there are layers in common.
        on: "image" or "text".
        name: of the method, for errors.
        bridge: S, which is a part of its own.
        scale: of what is added; in the backward pass it is left out within the adapters.

    Raises:
        VptError: a block that cannot be opened.
    """

    def __init__(
        self, encoder: Encoder | TextEncoder, on: Literal["image", "text"], name: str, bridge: Bridge, scale: float
    ) -> None:
        super().__init__()
        self.on, self.scale = on, scale
        self.claims = frozenset({f"{on} adapters"})
        self.first = encoder.depth - len(bridge.layers)
        for layer in range(self.first, encoder.depth):
            why = encoder.why_unopened(layer)
            if why is not None:
                raise VptError(f"{name} cannot be added to block {layer} of the {on} encoder: {why}.")
        count = len(bridge.layers)
        self.down = nn.ModuleList([_linear(encoder.width, bridge.rank) for _ in range(count)])
        self.up = nn.ModuleList([_linear(bridge.rank, encoder.width) for _ in range(count)])
        self._bridge = (bridge,)

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with the adapter beside it; those before the first adapter as they are."""
        if layer < self.first:
            return block
        normed: list[Tensor] = []

        def out(o: Tensor, y: Tensor) -> Tensor:
            normed[:] = [y]
            found: Tensor = block.out(o, y)
            return found

        def feed(x: Tensor) -> Tensor:
            found: Tensor = block.feed(x)
            return found + self._adapted(layer - self.first, normed[0])

        return replace(block, out=out, feed=feed)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of what is learned."""
        return next(self.parameters()).dtype

    def _adapted(self, index: int, y: Tensor) -> Tensor:
        """The values of scale · U ReLU(S ReLU(D y)), with the gradient that D, S and U have without the scale."""
        down, up, shared = self.down[index], self.up[index], self._bridge[0].layers[index]
        # What comes before is given the gradient of the scaled sum.
        given = self.scale * y + ((1 - self.scale) * y).detach()
        found: Tensor = up(shared(down(given.to(self.dtype)).relu()).relu())
        return (found + ((self.scale - 1) * found).detach()).to(y.dtype)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(layer.bias)
    return layer
