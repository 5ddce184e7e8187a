"""An image encoder that is not opened: images to features, for every method that does not enter it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.towers import sizes
from vpt.towers.base import ImageTower, without
from vpt.towers.opened import Opened

Encode = Callable[[Any, Tensor], Any]

# Modules that hold others and do nothing else.
CONTAINERS = (nn.Sequential, nn.ModuleList)

# Of a stage, the share of its parameters that blocks inside it hold, for these to be counted and not the stage.
MOST = 0.5


class WholeTower(ImageTower):
    """An encoder that is called as it is: a convolutional network, or a transformer with tokens that cannot be had.

    It has blocks to fine-tune the last of (`block`), and none that a prompt could enter.

    Args:
        model: its classifier left out; the weights are shared with the model that was given.
        encode: the model and images (B, 3, H, W) to features (B, F), or to feature maps of one pixel (B, F, 1, 1).
        closed: why no prompt can enter, as the end of a sentence.
        num_features: F; by default an image is encoded to see it.
        size: height and width of an image for that, in pixels.
        fixed: images of other sizes are refused.
    """

    patch_size = 1
    prefix = 0
    read = None

    def __init__(
        self,
        model: nn.Module,
        encode: Encode,
        closed: str,
        *,
        num_features: int | None = None,
        size: tuple[int, int],
        fixed: bool = False,
    ) -> None:
        super().__init__()
        if next(model.parameters(), None) is None:
            raise VptError(f"this {type(model).__name__} has no weights: give a trained encoder.")
        self.channels = sizes.channels_of(model)
        self.model = model
        self.encode = encode
        self.closed = closed
        self.image_size = size if fixed else None
        self.num_features = 0
        self.depth = len(blocks_of(model))
        self.num_features = num_features or self._seen(size)
        self.width = self.num_features

    def _seen(self, size: tuple[int, int]) -> int:
        """How many features the model makes of an image of zeros."""
        kernel, modes = self.kernel, {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                return self.features(
                    torch.zeros(1, self.channels, *size, dtype=kernel.dtype, device=kernel.device)
                ).shape[1]
        finally:
            for module, mode in modes.items():
                module.training = mode

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, F).

        Raises:
            VptError: images of another shape, or a model that makes something else of them.
        """
        images = sizes.fitted(images, self)
        try:
            found = self.encode(self.model, images)
        # Of images that are too small for it, or not square, a library raises what comes of them.
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            name, shape = type(self.model).__name__, tuple(images.shape)
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise VptError(
                f"{name} cannot encode images {shape} ({said}): give images as it was trained on."
            ) from error
        if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] == (1, 1):
            found = found.flatten(1)
        if not (isinstance(found, Tensor) and found.ndim == 2 and len(found) == len(images)):
            made = str(tuple(found.shape)) if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise VptError(
                f"{type(self.model).__name__} makes {made} of images {tuple(images.shape)}, and should make features "
                "(B, F): give a module that pools and returns one tensor."
            )
        if self.num_features and found.shape[1] != self.num_features:
            raise VptError(f"{type(self.model).__name__} makes {found.shape[1]} features, not {self.num_features}.")
        return found

    def block(self, layer: int) -> nn.Module:
        """Block `layer` of those that `blocks_of` finds."""
        return blocks_of(self.model)[layer]

    def final_norm(self) -> nn.Module:
        """The norms behind the last block, in one module."""
        last = {id(p) for p in self.block(self.depth - 1).parameters()} if self.depth else set()
        named = list(self.model.named_modules())
        inside = [place for place, (_, module) in enumerate(named) if any(id(p) in last for p in _own(module))]
        behind = [module for _, module in named[max(inside, default=len(named)) + 1 :]]
        return nn.ModuleList([module for module in behind if "norm" in type(module).__name__.lower() and _own(module)])

    def embed(self, images: Tensor) -> Tensor:
        """There are no tokens.

        Raises:
            VptError: always.
        """
        self._refuse()

    def readout(self, x: Tensor) -> Tensor:
        """Features (B, F) as they are."""
        return x

    def why_whole(self, layer: int) -> str:
        """`closed`."""
        assert self.closed is not None
        return self.closed

    def open(self, layer: int) -> Opened:
        """It has no parts.

        Raises:
            VptError: always.
        """
        self._refuse()

    def path(self, layer: int) -> str:
        """That no prompt enters it, and why."""
        return f"not entered: {self.closed}"

    def _refuse(self) -> NoReturn:
        raise VptError(f"nothing enters this encoder: {self.closed}.")


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of an encoder in the order they are kept in, which of every library is the order they are run in.

    A block is what stands in a list of modules and has parts of its own. Where such a part is a stage that holds a list
    of blocks of one kind, these count in its place.
    """
    found: list[nn.Module] = []
    for child in model.children():
        found += _listed(child) if isinstance(child, CONTAINERS) else blocks_of(child)
    return found


def _listed(container: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for part in container.children():
        if isinstance(part, CONTAINERS):
            found += _listed(part)
        elif next(part.children(), None) is not None and next(part.parameters(), None) is not None:
            found += _inside(part) or [part]
    return found


def _inside(stage: nn.Module) -> list[nn.Module]:
    """The blocks that a stage holds in lists of one kind, where they are most of it."""
    found = [block for child in stage.children() if isinstance(child, CONTAINERS) for block in _alike(child)]
    size = sum(p.numel() for p in stage.parameters())
    return found if sum(p.numel() for block in found for p in block.parameters()) > MOST * size else []


def _alike(container: nn.Module) -> list[nn.Module]:
    parts = list(container.children())
    one_kind = len({type(part) for part in parts}) == 1 and not isinstance(parts[0], CONTAINERS)
    return parts if one_kind and next(parts[0].children(), None) is not None else []


def without_classifier(model: nn.Module, *names: str) -> Any:
    """A view of `model` whose classifier hands on what it is given.

    Args:
        model: itself it stays as it is.
        names: of attributes, the first of which that is there is the classifier or ends in it: its last linear layer,
            or a convolution that stands for one, is left out.
    """
    for name in names:
        part = getattr(model, name, None)
        linear = [
            f"{name}.{path}" if path else name
            for path, module in (part.named_modules() if isinstance(part, nn.Module) else ())
            if isinstance(module, nn.Linear | nn.Conv2d)
        ]
        if linear:
            return replaced(model, linear[-1])
    return without(model)


def with_classifier(tower: ImageTower, module: Any) -> ImageTower:
    """`tower`, which knows what its model had as classifier, where the last linear layer of it reads its features."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)] if isinstance(module, nn.Module) else []
    if linear and linear[-1].in_features == tower.num_features:
        tower.classifier = (linear[-1].weight, linear[-1].bias)
    return tower


def replaced(model: Any, path: str) -> Any:
    """A view of `model` that shares its tensors and has an identity in the place of the module at `path`."""
    name, _, rest = path.partition(".")
    view = without(model)
    view._modules[name] = replaced(model._modules[name], rest) if rest else nn.Identity()
    return view
