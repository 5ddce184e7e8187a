"""A small transformer beside a frozen encoder, which looks at what every block of it gives."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Side
from vpt.methods.parts.encoders import Encoder


class Ladder(Side):
    """s_0 = d_0(h_0), s_(i+1) = block_i(g_i · d_(i+1)(h_(i+1)) + (1 - g_i) · s_i), and up(s_L) is read out.

    h_0 are the encoder's tokens before its first block, h_i behind block i. d_i and up are linear; g = sigmoid(a / T).

    Args:
        encoder: the image encoder, which is not changed.
        reduction: its width, divided by that of the side network.
        temperature: T.
        residual: what is read out is h_L + up(s_L), and up begins as zero.

    Raises:
        VptError: a width that `reduction` does not divide, or tokens whose width changes from block to block.
    """

    def __init__(self, encoder: Encoder, *, reduction: int, temperature: float, residual: bool) -> None:
        super().__init__()
        widths = sorted({encoder.width_at(layer) for layer in range(encoder.depth + 1)})
        if len(widths) > 1:
            raise VptError(f"a network beside the encoder looks at tokens of one width, and here they are {widths}.")
        if reduction < 1 or encoder.width % reduction:
            raise VptError(f"reduction={reduction} must divide the width of the backbone, {encoder.width}.")
        width, self.temperature, self.residual = encoder.width // reduction, temperature, residual
        heads = math.gcd(width, max(1, encoder.width // 64))
        self.downs = nn.ModuleList(nn.Linear(encoder.width, width) for _ in range(encoder.depth + 1))
        self.gates = nn.Parameter(torch.zeros(encoder.depth))
        self.blocks = nn.ModuleList(SideBlock(width, heads) for _ in range(encoder.depth))
        self.up = nn.Linear(width, encoder.width)
        if residual:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def begin(self, x: Tensor) -> Tensor:
        """d_0(h_0) of the tokens before block 0, (B, N, D)."""
        return self.downs[0](x.to(self.gates.dtype))

    def step(self, layer: int, side: Tensor, x: Tensor) -> Tensor:
        """What becomes of `side` beside block `layer`, which gives x, (B, N, D)."""
        gate = torch.sigmoid(self.gates[layer] / self.temperature)
        return self.blocks[layer](torch.lerp(side, self.downs[layer + 1](x.to(side.dtype)), gate))

    def end(self, side: Tensor, x: Tensor) -> Tensor:
        """The tokens that are read out, of what the last block gives, (B, N, D)."""
        found = self.up(side).to(x.dtype)
        return x + found if self.residual else found


class SideBlock(nn.Module):
    """A transformer block: x + attention(norm(x)), and then x + mlp(norm(x)), of 4 times the width.

    Args:
        width: of its tokens.
        heads: of its attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) to the same."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
