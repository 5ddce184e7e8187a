"""Prompts that are mixed, behind each block, with what they were before it; and a temperature of attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vpt.methods.parts.base import Change
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.inputs import check_stages
from vpt.methods.parts.outwards import behind_projections
from vpt.methods.parts.tokens import Tokens


class Gated(Tokens):
    """Prompts of block 0 that are carried on: before block i + 1 they are g_i · block(p) + (1 - g_i) · p.

    Args:
        tower: the encoder that is prompted.
        gate: logit of each gate g at first.
        options: of `Tokens`.

    Attributes:
        logits: of the gates, (blocks - 1,).
    """

    looks_back = True

    def __init__(self, tower: Encoder, *, gate: float, **options: Any) -> None:
        super().__init__(tower, [0], **options)
        self.enters = frozenset(range(tower.depth))
        self.logits = nn.Parameter(torch.full((tower.depth - 1,), float(gate)))

    def made(self, layer: int, given: Tensor, found: Tensor) -> Tensor:
        """What the block before made of its prompts, mixed with them."""
        gate = self.logits[layer - 1].sigmoid().to(found.dtype)
        return torch.lerp(given.expand_as(found), found, gate)

    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        """The prompts before block 0, and later those that are carried on."""
        return super().entering(layer, x, last) if last is None else last


class Temperature(Change):
    """Scores of attention are divided by a temperature of the block.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        least: of the values that count.
        most: likewise.

    Attributes:
        values: (blocks,), 1 at first. Beyond the bounds the nearest bound counts, and its gradient is theirs.

    Raises:
        VptError: an encoder with a block that is not opened, or whose queries are normed.
    """

    linear = True
    claims = frozenset({"temperature of image attention"})

    def __init__(self, encoder: Encoder, name: str, *, least: float = 0.01, most: float = 10.0) -> None:
        super().__init__()
        check_stages(encoder, name)
        self.least, self.most = least, most
        self.values = nn.Parameter(torch.ones(encoder.depth))

    def change(self, layer: int, block: Any) -> Any:
        """The opened block, its queries divided by the temperature."""

        def divided(projected: Sequence[Tensor], names: str) -> tuple[Tensor, ...]:
            if "q" not in names:
                return tuple(projected)
            value = self.values[layer]
            value = value + (value.clamp(self.least, self.most) - value).detach()
            if len(projected) == 1:
                scale = torch.stack([1 / value, torch.ones_like(value), torch.ones_like(value)])
                return (projected[0] * scale[:, None, None].to(projected[0].dtype),)
            return (projected[0] / value.to(projected[0].dtype), *projected[1:])

        return behind_projections(block, divided)
