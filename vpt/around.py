"""What stands around the block loops: other weights at both ends, the grid of patches, a network beside the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Side
from vpt.towers.base import Change, ImageTower
from vpt.towers.places import Grid


def called(tower: ImageTower, name: str, weights: Mapping[str, Tensor], x: Tensor) -> Any:
    """What the method `name` of an encoder gives for `x`, with `weights` in place of parameters of these names."""
    if not weights:
        return getattr(tower, name)(x)
    named = {f"tower.{key}": weight for key, weight in weights.items()}
    # What is tied is named; torch's compiler cannot follow the search for it.
    return functional_call(_Called(tower), named, (name, x), tie_weights=False)


class _Called(nn.Module):
    """An encoder, whose methods are called by their names."""

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, name: str, x: Tensor) -> Any:
        return getattr(self.tower, name)(x)


def are_images(images: Any) -> bool:
    """Whether it is a list of preprocessed images (3, H, W)."""
    several = isinstance(images, list | tuple) and len(images) > 0
    return several and all(isinstance(image, Tensor) and image.ndim == 3 for image in images)


def by_size(images: Tensor | Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Features (B, F) of images (B, 3, H, W); or of B images (3, H, W) of several sizes, those of one size at once."""
    if isinstance(images, Tensor):
        return encode(images)
    alike: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        alike.setdefault(image.shape, []).append(place)
    found = torch.cat([encode(torch.stack([images[place] for place in places])) for places in alike.values()])
    order = torch.tensor([place for places in alike.values() for place in places], device=found.device)
    return found[order.argsort()]


def on_grid(tower: ImageTower, method: Method, change: Change, images: Tensor, x: Tensor, prompts: int = 0) -> Change:
    """A method's part in the blocks, told where patches stand where it looks at that.

    Args:
        tower: the encoder.
        method: whose part it is.
        change: it, as it is or merged.
        images: (B, 3, H, W).
        x: their tokens before block 0, (B, N, D), without prompts.
        prompts: how many stand before the patches.

    Raises:
        VptError: the tokens are no grid of patches.
    """
    if change is None or not any(part.on_grid for part in method.changes("image")):
        return change
    height, width = (-(-side // tower.patch_size) for side in tower.image_size or images.shape[2:])
    if tower.prefix + height * width != x.shape[1]:
        raise VptError(
            f"{method.name} looks at the grid of patches, and {x.shape[1]} tokens are no {height} × {width} patches "
            f"behind {tower.prefix} others: choose another backbone."
        )
    grid, inner = Grid(height, width, tower.prefix + prompts), change
    return lambda layer, block: inner(layer, replace(block, grid=grid))


def encode_beside(tower: ImageTower, beside: Side, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) to features (B, F) by a network beside the encoder, of whose blocks nothing is kept."""
    with torch.no_grad():
        x, places = tower.embedded(images)
    side = beside.begin(x)
    for layer in range(tower.depth):
        with torch.no_grad():
            x = tower.advance(layer, x, places=places)
        side = beside.step(layer, side, x)
    return tower.readout(beside.end(side, x))


def read_out(tower: ImageTower, method: Method, x: Tensor, given: Sequence[Tensor]) -> Tensor:
    """Tokens of the plain form after the last block, (B, N, D), to features (B, F).

    Args:
        tower: the encoder.
        method: a network beside the encoder makes what is read out.
        x: the tokens.
        given: what each block was given.
    """
    if tower.closed is not None:
        return x
    if method.side_network is not None:
        side = method.side_network.begin(given[0])
        for layer, tokens in enumerate([*given[1:], x]):
            side = method.side_network.step(layer, side, tokens)
        return tower.readout(method.side_network.end(side, x))
    found: Tensor = called(tower, "readout", method.weights(tower), method.image_prompts.strip(x))
    return found
