"""Prompts that are made of the image's tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.bottleneck import check_share
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.tokens import Tokens


class Adaptive(Tokens):
    """Prompts of the first blocks as they are learned; of the later ones made of what the block is given of the image.

    p = z + V ReLU(U z), and z is, for each prompt, a weighted sum of the patches, normed and gone through a convolution
    that all channels have in common, and a constant. U and V are those of all blocks.

    Args:
        tower: the encoder that is prompted, for images of one size.
        num_tokens: prompts P a block.
        learned: how many blocks, at least one, have prompts that are learned as they are.
        kernel: side K of the convolutions.
        hidden: numbers between U and V.
        dropout: of prompts that are learned as they are.
        drop_channels: share of the channels of a convolution's result that an image goes without, in training.

    Attributes:
        norms: of the tokens, (blocks, 2, D): scale and shift.
        kernels: (blocks, K, K), N(0, 1) at first.
        weights: of the sums, (blocks, P, places), with constants, (blocks, P), both zero at first.
        down: U, (hidden, D).
        up: V, (D, hidden).

    Raises:
        VptError: an option out of its range, or an encoder of images of any size.
    """

    looks_at_image = True

    def __init__(
        self,
        tower: Encoder,
        *,
        num_tokens: int,
        learned: int,
        kernel: int,
        hidden: int,
        dropout: float,
        drop_channels: float,
    ) -> None:
        if not 1 <= learned < tower.depth:
            raise VptError(f"learned={learned}: from 1 to {tower.depth - 1} blocks can have prompts of their own.")
        if tower.image_size is None:
            raise VptError("prompts that sum over patches need images of one size: make the backbone with one.")
        check_share(drop_channels=drop_channels)
        super().__init__(tower, range(learned), num_tokens=num_tokens, dropout=dropout)
        self.grid = tuple(side // tower.patch_size for side in tower.image_size)
        if not 1 <= kernel <= min(self.grid) or hidden < 1:
            raise VptError(f"kernel={kernel} must lie between 1 and {min(self.grid)}, and hidden={hidden} above 0.")
        self.enters = frozenset(range(tower.depth))
        self.learned, self.drop_channels = learned, drop_channels
        depth, width = tower.depth - learned, tower.width
        places = math.prod(side - kernel + 1 for side in self.grid)
        self.norms = nn.Parameter(torch.stack([torch.ones(depth, width), torch.zeros(depth, width)], dim=1))
        self.kernels = nn.Parameter(torch.randn(depth, kernel, kernel))
        self.weights = nn.Parameter(torch.zeros(depth, num_tokens, places))
        self.constants = nn.Parameter(torch.zeros(depth, num_tokens))
        self.down = nn.Parameter(torch.empty(hidden, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.empty(width, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        """What enters before block `layer`, of the image's tokens x, (B, N, D)."""
        if layer < self.learned:
            return super().entering(layer, x, last)
        row = layer - self.learned
        scale, shift = self.norms[row].to(x.dtype)
        patches = F.layer_norm(x, scale.shape, scale, shift)[:, self.prefix :]
        # The convolution and the sums are linear in the patches, and the same for each channel: one matrix (P, N).
        kernel, weights = self.kernels[row][None, None], self.weights[row]
        height, width = (side - kernel.shape[-1] + 1 for side in self.grid)
        sums = F.conv_transpose2d(weights.unflatten(1, (1, height, width)), kernel).flatten(1)
        found = sums.to(x.dtype) @ patches
        if self.training and self.drop_channels:
            found = found * F.dropout(torch.ones_like(found[:, :1]), self.drop_channels)
        found = found + self.constants[row][:, None].to(x.dtype)
        return found + F.linear(F.relu(F.linear(found, self.down.to(x.dtype))), self.up.to(x.dtype))
