"""An adapter without an activation, whose second matrix has groups: it can be merged with what follows it."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change
from vpt.methods.parts.bottleneck import check_rank, check_share
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.inputs import before_attention, before_mlp, check_stages


class Grouped(Change):
    """y + scale · (B dropout(A y + a) + b) of the normed tokens, before attention or before the MLP of every block.

    B has groups: each part of what A gives makes one part of the channels.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        before: "attention" or "mlp".
        rank: rows of A.
        groups: of B.
        scale: of what is added.
        dropout: of what B is applied to.

    Attributes:
        down: A, (blocks, rank, D), by Xavier's uniform initialisation, with down_bias a, (blocks, rank), zero.
        up: B, (blocks, D, rank / groups), and up_bias b, (blocks, D), both zero.

    Raises:
        VptError: an option out of its range, or an encoder with a block that does not show what follows.
    """

    linear = True

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        before: Literal["attention", "mlp"],
        rank: int,
        groups: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        check_rank(rank)
        check_share(dropout=dropout)
        depth, width = encoder.depth, encoder.width
        if groups < 1 or rank % groups or width % groups:
            raise VptError(f"groups={groups} must divide rank={rank} and the width {width} of the backbone.")
        check_stages(encoder, name, *(["up"] if before == "mlp" else []))
        self.claims = frozenset({f"adapter before the image {'MLP' if before == 'mlp' else before}"})
        self.before, self.groups, self.scale, self.dropout = before, groups, scale, dropout
        bound = (6 / (rank + width)) ** 0.5
        self.down = nn.Parameter(torch.empty(depth, rank, width).uniform_(-bound, bound))
        self.down_bias = nn.Parameter(torch.zeros(depth, rank))
        self.up = nn.Parameter(torch.zeros(depth, width, rank // groups))
        self.up_bias = nn.Parameter(torch.zeros(depth, width))

    def adapted(self, layer: int, y: Tensor) -> Tensor:
        """Normed tokens (B, N, D) to what takes their place."""
        down, down_bias, up, up_bias = (
            part[layer].to(y.dtype) for part in (self.down, self.down_bias, self.up, self.up_bias)
        )
        hidden = F.dropout(F.linear(y, down, down_bias), self.dropout, self.training)
        # (B, N, groups, 1, rank / groups) times (groups, rank / groups, D / groups).
        parts = hidden.unflatten(-1, (self.groups, 1, -1)) @ up.unflatten(0, (self.groups, -1)).transpose(1, 2)
        return torch.add(y, parts.flatten(-3) + up_bias, alpha=self.scale)

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned before attention, or before its MLP."""
        put = before_attention if self.before == "attention" else before_mlp
        return put(block, lambda y: self.adapted(layer, y))
