"""Convolutions over the grid of patches, beside attention and beside the MLP of every block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.methods.parts.base import Change
from vpt.methods.parts.bottleneck import check_opened, check_rank, check_share
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.low_rank_stages import sizes_of


class Convolution(Change):
    """scale · (U dropout(g(conv(g(D y + d)))) + u) of the normed tokens, beside attention or the MLP of every block.

    conv is of 3 × 3 on r channels, and g(x) = x · sigmoid(1.702 x). Tokens without a place in the grid, which are class
    and register tokens and prompts, are each an image of one patch: the middle of conv is applied to them alone.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        beside: "attention" or "mlp".
        rank: r.
        scale: of what is added.
        dropout: of what U is applied to.
        init: of conv: "identity", or "xavier" for Xavier's uniform initialisation.

    Attributes:
        down: D, (blocks, r, width), by Xavier's uniform initialisation, with down_bias d, (blocks, r), zero.
        kernel: of conv, (blocks, r, r, 3, 3), with kernel_bias, (blocks, r), zero.
        up: U, (blocks, width, r), and up_bias u, (blocks, width), both zero.

    Raises:
        VptError: an option out of its range, or an encoder with a block that is not opened.
    """

    on_grid = True

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        beside: Literal["attention", "mlp"],
        rank: int,
        scale: float,
        dropout: float,
        init: Literal["identity", "xavier"],
    ) -> None:
        super().__init__()
        check_rank(rank)
        check_share(dropout=dropout)
        check_opened(encoder, name)
        if beside == "mlp":
            for layer in range(encoder.depth):
                sizes_of(encoder, layer, "up", "image", name)
        self.claims = frozenset({f"branch beside {'the image MLP' if beside == 'mlp' else 'image attention'}"})
        self.beside, self.scale, self.dropout = beside, scale, dropout
        depth, width = encoder.depth, encoder.width
        bound = (6 / (rank + width)) ** 0.5
        self.down = nn.Parameter(torch.empty(depth, rank, width).uniform_(-bound, bound))
        self.down_bias = nn.Parameter(torch.zeros(depth, rank))
        kernel = torch.zeros(depth, rank, rank, 3, 3)
        if init == "identity":
            kernel[..., 1, 1] = torch.eye(rank)
        else:
            kernel.uniform_(-1, 1).mul_((6 / (9 * 2 * rank)) ** 0.5)
        self.kernel = nn.Parameter(kernel)
        self.kernel_bias = nn.Parameter(torch.zeros(depth, rank))
        self.up = nn.Parameter(torch.zeros(depth, width, rank))
        self.up_bias = nn.Parameter(torch.zeros(depth, width))

    def added(self, layer: int, y: Tensor, grid: Any) -> Tensor:
        """What is added for normed tokens (B, N, D), among which patches stand as `grid` says, or of which none is."""
        down, down_bias, kernel, kernel_bias, up, up_bias = (
            part[layer].to(y.dtype)
            for part in (self.down, self.down_bias, self.kernel, self.kernel_bias, self.up, self.up_bias)
        )
        hidden = quick_gelu(F.linear(y, down, down_bias))
        start, end = grid.start, grid.start + grid.height * grid.width
        alone = [hidden] if hidden.shape[1] < end else [hidden[:, :start], hidden[:, end:]]
        parts = [F.linear(part, kernel[..., 1, 1], kernel_bias) for part in alone]
        if len(parts) == 2:
            patches = hidden[:, start:end].transpose(1, 2).unflatten(2, (grid.height, grid.width))
            found = F.conv2d(patches, kernel, kernel_bias, padding=1).flatten(2).transpose(1, 2)
            parts.insert(1, found)
        hidden = F.dropout(quick_gelu(torch.cat(parts, dim=1)), self.dropout, self.training)
        return F.linear(hidden, up, up_bias) * self.scale

    def change(self, layer: int, block: Any) -> Any:
        """The opened block with what is learned beside attention, or beside its MLP."""
        grid, out, feed = block.grid, block.out, block.feed
        if self.beside == "attention":
            return replace(block, out=lambda o, y: out(o, y) + self.added(layer, y, grid))

        def both(x: Tensor) -> Tensor:
            y = feed.norm(x)
            found: Tensor = replace(feed, norm=_given)(y)
            return found + self.added(layer, y, grid)

        return replace(block, feed=both)


def _given(x: Tensor) -> Tensor:
    return x


def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)
