"""Values that are added to the pixels of every image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import Pixels


class AddedPixels(Pixels):
    """A frame, a square or a pattern, in the units of preprocessed images.

    Args:
        kind: "padding", "fixed-patch", "random-patch" or "low-rank", as `vpt.methods.pixel.Pixel` tells.
        channels: of images.
        size: width of the frame, or side of the square, in pixels.
        rank: of "low-rank".
        resize: make the image as small as the inside of the frame.

    Raises:
        VptError: an option out of its range.
    """

    sides: Tensor
    index: Tensor

    def __init__(
        self,
        kind: Literal["padding", "fixed-patch", "random-patch", "low-rank"],
        channels: int,
        *,
        size: int,
        rank: int,
        resize: bool,
    ) -> None:
        super().__init__()
        if size < 1 or rank < 1:
            raise VptError(f"size={size} and rank={rank} must be 1 or more, or there is nothing to learn.")
        if resize and kind != "padding":
            raise VptError(f"resize=true makes room for a frame, and kind={kind} has none: leave it out.")
        self.channels = channels
        self.kind, self.size, self.rank, self.resize_images = kind, size, rank, resize
        self.register_buffer("sides", torch.zeros(2, dtype=torch.long))

    def set_image_size(self, height: int, width: int) -> None:
        """Makes the values, now that their number is known.

        Raises:
            VptError: they do not fit into the image.
        """
        reach = 2 * self.size if self.kind == "padding" else self.size
        if self.kind != "low-rank" and reach >= min(height, width):
            raise VptError(f"size={self.size} leaves nothing of images of {height}×{width} pixels: give a smaller one.")
        self.sides.copy_(torch.tensor([height, width]))
        if self.kind == "low-rank":
            self.left = nn.Parameter(torch.zeros(self.channels, height, self.rank))
            self.right = nn.Parameter(torch.randn(self.channels, self.rank, width))
        elif self.kind == "padding":
            self.values = nn.Parameter(torch.randn(self.channels, len(_frame(height, width, self.size))))
        else:
            self.values = nn.Parameter(torch.randn(self.channels, self.size, self.size))
        self._place(height, width)

    def _place(self, height: int, width: int) -> None:
        self.shape = (height, width)
        if self.kind == "padding":
            self.register_buffer("index", _frame(height, width, self.size), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) with what is learned."""
        height, width = images.shape[2:]
        if (height, width) != self.shape:
            want = "×".join(map(str, self.shape))
            raise VptError(f"what was learned is for images of {want} pixels, and got {height}×{width}: resize them.")
        if self.kind == "low-rank":
            return images + (self.left @ self.right).to(images.dtype)
        values = self.values.to(images.dtype)
        if self.kind == "padding":
            frame = values.new_zeros(self.channels, height * width).index_copy(1, self.index, values)
            frame = frame.unflatten(1, (height, width))
            return (self._shrunk(images) if self.resize_images else images) + frame
        if self.kind == "fixed-patch":
            return images + F.pad(values, (0, width - self.size, 0, height - self.size))
        return images + self._scattered(values, len(images), height, width)

    def _shrunk(self, images: Tensor) -> Tensor:
        inside = (images.shape[2] - 2 * self.size, images.shape[3] - 2 * self.size)
        small = F.interpolate(images, inside, mode="bilinear", antialias=True, align_corners=False)
        return F.pad(small, (self.size,) * 4)

    def _scattered(self, values: Tensor, batch: int, height: int, width: int) -> Tensor:
        """The square at a place of its own in each image, (B, 3, H, W)."""
        device = values.device
        share = torch.rand(2, batch, device=device) if self.training else torch.full((2, batch), 0.5, device=device)
        free = height - self.size, width - self.size
        top, left = ((drawn * (most + 1)).long().clamp(max=most) for drawn, most in zip(share, free, strict=True))
        along = torch.arange(self.size, device=device)
        rows, columns = (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]
        canvas = values.new_zeros(batch, height, width, self.channels)
        image = torch.arange(batch, device=device)[:, None, None]
        canvas = canvas.index_put((image, rows, columns), values.movedim(0, -1).expand(batch, -1, -1, -1))
        return canvas.movedim(-1, 1)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Values of another size of image."""
        height, width = state["sides"].tolist()
        for name, parameter in self.named_parameters(recurse=False):
            if name in state:
                parameter.data = torch.empty_like(state[name], device=parameter.device)
        self._place(height, width)
        if self.kind == "padding":
            self.index = self.index.to(self.values.device)


def _frame(height: int, width: int, size: int) -> Tensor:
    """The places of pixels that a frame of so many covers, in the order of rows."""
    covered = np.ones((height, width), dtype=bool)
    covered[size : height - size, size : width - size] = False
    return torch.from_numpy(np.flatnonzero(covered))
