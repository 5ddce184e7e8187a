"""What an image tower's patches make of images: how many channels they take, and which sizes they cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.report.notes import tell

if TYPE_CHECKING:
    from vpt.towers.base import ImageTower

# A border that a published model's own code leaves out (6 of SigLIP's 384 pixels) stays out: its weights know no other.
BORDER = 0.05

# Each patch is held against all others: an image of more would take minutes on a CPU, or all of a GPU's memory.
MOST_PATCHES = 32_768


def channels_of(model: nn.Module) -> int:
    """How many channels the first convolution takes."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def check_patches(patch: int, size: tuple[int, int], where: str) -> None:
    """Nothing, if patches of `patch` pixels cover images of `size`, height and width.

    Raises:
        VptError: a border would be left that no patch sees.
    """
    if any(side % patch for side in size):
        near = [tuple(max(side // patch + more, 1) * patch for side in size) for more in (0, 1)]
        shown = " or ".join("×".join(map(str, each)) for each in near)
        raise VptError(
            f"{where}: patches of {patch} pixels do not divide {size[0]}×{size[1]}, and no patch would see the rest: "
            f"take {shown}."
        )


def check_tower(tower: ImageTower) -> None:
    """Nothing, if a tower can be used; where its own size has a border that no patch sees that is told.

    Raises:
        VptError: it has no blocks, no features or no patch.
    """
    if (tower.depth < 1 and tower.closed is None) or tower.num_features < 1:
        raise VptError(f"this backbone has {tower.depth} blocks and {tower.num_features} features: take one of both.")
    if tower.image_size is not None and min(tower.image_size) < tower.patch_size:
        shown = "×".join(map(str, tower.image_size))
        raise VptError(f"patches of {tower.patch_size} pixels are larger than images of {shown}: take smaller ones.")
    if tower.image_size is not None:
        _check_count(tower, tower.image_size)
    if tower.image_size is not None and _border(tower.patch_size, tower.image_size) > BORDER:
        height, width = tower.image_size
        covered = "×".join(str(side - side % tower.patch_size) for side in tower.image_size)
        tell(
            f"patches of {tower.patch_size} pixels do not divide {height}×{width}, and would not see the border: "
            f"images are made {covered} pixels before they are cut into patches."
        )


def _check_count(tower: ImageTower, size: tuple[int, int]) -> None:
    """Towers whose attention sees few patches at a time, or that are used whole (their patch is a pixel), take more."""
    if tower.closed is not None or tower.hierarchical:
        return
    patch = tower.patch_size
    count = (size[0] // patch) * (size[1] // patch)
    if count > MOST_PATCHES:
        shown = "×".join(map(str, size))
        raise VptError(
            f"images of {shown} are {count:,} patches of {patch} pixels, each held against all others: take a smaller "
            f"image_size, of at most {MOST_PATCHES:,} patches."
        )


def fitted(images: Tensor, tower: ImageTower) -> Tensor:
    """Images (B, 3, H, W) as the patches of a tower take them.

    Where patches would leave out more than a twentieth of a side the image is made smaller, so that they see all of it;
    the pixels that are then missing are zeros that no patch sees.

    Raises:
        VptError: images of another size than the tower's, or where it takes any, one that its patches do not divide.
    """
    if not images.is_floating_point():
        raise VptError(
            f"the backbone takes preprocessed images, real numbers, and got {images.dtype}: see model.predict."
        )
    if images.ndim != 4 or images.shape[1] != tower.channels:
        remedy = "make them RGB" if tower.channels == 3 else "give them all of its channels"
        taken = f"(B, {tower.channels}, H, W)"
        raise VptError(f"the backbone takes images {taken} and got {tuple(images.shape)}: {remedy}.")
    size, want, patch = (images.shape[-2], images.shape[-1]), tower.image_size, tower.patch_size
    if want is None:
        check_patches(patch, size, "the images")
        _check_count(tower, size)
        return images
    if size != want:
        got, taken = ("×".join(map(str, pixels)) for pixels in (size, want))
        raise VptError(
            f"the backbone takes images of {taken} pixels and got {got}: resize them, "
            f"or create it with image_size={size[1]}."
        )
    if _border(patch, size) <= BORDER:
        return images
    height, width = (side - side % patch for side in size)
    smaller = F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return F.pad(smaller, (0, size[1] - width, 0, size[0] - height))


def _border(patch: int, size: tuple[int, int]) -> float:
    """The largest share of a side that no patch sees."""
    return max(side % patch / side for side in size)
