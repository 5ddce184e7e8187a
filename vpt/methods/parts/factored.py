"""Changes of all linear layers of an encoder at once, as a tensor in factors that its blocks have in common."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Change
from vpt.methods.parts.bottleneck import check_rank, check_share
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.inputs import check_stages
from vpt.methods.parts.low_rank import with_added
from vpt.methods.parts.low_rank_stages import STAGES, sizes_of, stage_of, with_stage


class Factored(Change):
    """Every linear layer h of D → D, and each such piece of the MLP's layers, becomes h + scale · V dropout(S U x).

    U (r, D) and V (D, r) are those of all blocks; S (r, r) is of one layer or piece. An MLP of k D hidden numbers has k
    pieces in each of its layers.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        form: "tt", each S is learned (tensor train), or "tk", S is a product of one core (r, r, r) with a vector (r,)
            of the layer or piece (Tucker).
        rank: r.
        scale: of what is added.
        dropout: of what V is applied to, a mask for each layer.

    Attributes:
        down: Uᵀ as rows, (r, D); uniform between ± 1 / √D at first.
        up: V, (D, r), zero at first.
        cores: Sᵀ, (blocks, 4 + 2 k, r, r), of q, k, v, output, up and down; of "tk" the core, (r, r, r).
        vectors: of "tk", (r, blocks · (4 + 2 k)).

    Raises:
        VptError: an option out of its range, or an encoder with a block that does not show its layers.
    """

    linear = True
    claims = frozenset({*(f"image {each}" for each in "qkv"), *(f"image {each}" for each in STAGES.values())})

    def __init__(
        self, encoder: Encoder, name: str, *, form: Literal["tt", "tk"], rank: int, scale: float, dropout: float
    ) -> None:
        super().__init__()
        check_rank(rank)
        check_share(dropout=dropout)
        check_stages(encoder, name, "o", "up", "down")
        depth, width = encoder.depth, encoder.width
        hidden = sizes_of(encoder, 0, "up", "image", name)[1]
        if hidden % width or sizes_of(encoder, 0, "down", "image", name)[0] != hidden:
            raise VptError(
                f"{name} takes the MLP apart in pieces of the width {width}, which do not make its {hidden} numbers: "
                "choose another backbone, or lora."
            )
        self.form, self.scale, self.dropout = form, scale, dropout
        self.pieces, self.rank = hidden // width, rank
        self.down = nn.Parameter(torch.empty(rank, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(width, rank))
        count = 4 + 2 * self.pieces
        if form == "tt":
            cores = torch.empty(depth, count, rank, rank).uniform_(-1, 1) / math.sqrt(rank)
            cores[:, 4 + self.pieces :] /= math.sqrt(self.pieces)
            self.cores = nn.Parameter(cores)
            self.vectors = None
        else:
            self.cores = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, rank, rank)))
            self.vectors = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, depth * count)))

    def of_block(self, layer: int) -> Tensor:
        """Sᵀ of block `layer`, (4 + 2 k, r, r)."""
        if self.vectors is None:
            return self.cores[layer]
        count, r, k = 4 + 2 * self.pieces, self.rank, self.pieces
        # Rows and columns of each, and which it is, (r, r, 4 + 2 k).
        cores = self.cores @ self.vectors[:, layer * count : (layer + 1) * count]
        attention = cores[..., :4].permute(2, 0, 1)
        # The paper's code puts rows of r numbers of the k pieces together as they lie in memory.
        up = cores[..., 4 : 4 + k].reshape(r, k, r).permute(1, 0, 2)
        down = cores[..., 4 + k :].reshape(r, k, r).permute(1, 2, 0)
        return torch.cat([attention, up, down])

    def outward(self, inner: Tensor) -> Tensor:
        """V dropout(inner)."""
        return F.linear(F.dropout(inner, self.dropout, self.training), self.up.to(inner.dtype))

    def inward(self, x: Tensor) -> Tensor:
        """U x."""
        return F.linear(x, self.down.to(x.dtype))

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned in all of its layers."""

        def cores(first: int, count: int, like: Tensor) -> Tensor:
            return self.of_block(layer)[first : first + count].to(like.dtype)

        def projections(y: Tensor, names: str) -> Tensor:
            first = "qkv".index(names[0])
            inner = self.inward(y)[None] @ cores(first, len(names), y)[:, None]
            return self.outward(inner)

        def o(h: Tensor) -> Tensor:
            return self.outward(self.inward(h) @ cores(3, 1, h)[0])

        def up(h: Tensor) -> Tensor:
            inner = self.inward(h).unsqueeze(-2).unsqueeze(-2) @ cores(4, self.pieces, h)
            return self.outward(inner.squeeze(-2)).flatten(-2)

        def down(h: Tensor) -> Tensor:
            pieces = self.inward(h.unflatten(-1, (self.pieces, -1))).flatten(-2)
            return self.outward(pieces @ cores(4 + self.pieces, self.pieces, h).flatten(0, 1))

        block = with_added(block, "qkv", projections, self.scale)
        for stage, added in (("o", o), ("up", up), ("down", down)):
            block = with_stage(block, stage, _plus(stage_of(block, stage), added, self.scale))
        return block


def _plus(stage: Any, added: Any, scale: float) -> Any:
    return lambda h: torch.add(stage(h), added(h), alpha=scale)
