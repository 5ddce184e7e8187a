"""Batteries that towers and methods of other packages can be put through, without pytest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vpt.assemble import attach
from vpt.checks import check_method
from vpt.model import Prompted
from vpt.preprocessing import Preprocessing
from vpt.towers.base import ImageTower
from vpt.towers.hierarchical import HierarchicalTower, in_stages
from vpt.towers.places import Places

__all__ = ["check_method", "check_tower"]

TOLERANCE = 1e-10

# Of towers that are not held in float64, for what their own library gives.
ROUNDING = 1e-4

# What each form of prompts is checked by: carried on, new in each block, both, and no prompts but all weights.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "vpt-shallow": ("vpt-shallow", {"num_tokens": 3}),
    "vpt-deep": ("vpt-deep", {"num_tokens": 3}),
    "vpt-deep, first block": ("vpt-deep", {"num_tokens": 2, "first": 1}),
    "full": ("full", {}),
}


def check_tower(
    tower: ImageTower,
    *,
    images: Tensor | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]] = METHODS,
) -> dict[str, float]:
    """Put an image tower through the laws that every tower obeys, in float64 but for the first.

    1. Identity: embed, all blocks and readout are the model's own forward pass.
    2. Attention only: a block, given tokens and a context, is the library's own block on both, as to the tokens; of an
       encoder of stages, whose library has no block of both, tokens are the same whether prompts are advanced or not.
    3. Method equality: the fast form of each method is its definition, in values and gradients.
    4. Frozen means frozen: training changes nothing of the tower that the method does not tune.

    And what follows from them: features of an image do not depend on its batch, `readout` looks at the first `read`
    tokens alone, and shapes are those that the tower tells.

    Args:
        tower: as a model is given it; it stays as it is.
        images: (B, C, H, W), two or more; by default random ones of the size that it takes.
        features: the model's own forward pass, images to features (B, F), for the first law.
        methods: of the third and the fourth law, by a name each: the method's name and options.

    Returns:
        The largest error of each law, by its name.

    Raises:
        AssertionError: a law is broken; which, where and by how much.
    """
    images = _images(tower) if images is None else images
    found: dict[str, float] = {}
    with torch.no_grad():
        _check_shapes(tower, images.to(tower.dtype))
        own = tower.features(images.to(tower.dtype))
        if features is not None:
            limit = TOLERANCE if tower.dtype == torch.float64 else ROUNDING
            found["identity"] = _close("identity: the model's own forward pass", own, features(images), limit)
        exact = copy.deepcopy(tower).double().eval()
        images = images.double()
        found["batch"] = _check_batch(exact, images)
        found["read"] = _check_read(exact, images)
        found["attention only"] = max(_check_block(exact, images, layer) for layer in range(exact.depth))
    for name, (method, options) in methods.items():
        model = _prompted(exact, images, method, options)
        found[name] = _check_method(model, images, name)
        _check_frozen(model, images, name)
    return found


def _images(tower: ImageTower) -> Tensor:
    size = tower.image_size or (4 * tower.patch_size,) * 2
    return torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))


def _close(what: str, got: Tensor, expected: Tensor, limit: float = TOLERANCE) -> float:
    """The largest difference, relative to the largest value where that is above 1."""
    assert got.shape == expected.shape, f"{what}: {tuple(got.shape)} in place of {tuple(expected.shape)}"
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0)) if got.numel() else 0.0
    assert error <= limit, f"{what}: {error:.1e} apart, and {limit:.0e} is allowed"
    return error


def _check_shapes(tower: ImageTower, images: Tensor) -> None:
    if in_stages(tower):
        _check_stages(tower, images)
        return
    x, places = tower.embedded(images)
    assert torch.equal(x, tower.embed(images)), "embedded(images) gives other tokens than embed(images)"
    assert (places is not None) == tower.placed, "embedded(images) gives places just where the tower is `placed`"
    assert (x.ndim, len(x)) == (3, len(images)), f"embed gives {tuple(x.shape)}, which is not (B, N, D)"
    for layer in range(tower.depth):
        width = tower.width_at(layer)
        assert x.shape[-1] == width, f"block {layer} is given {x.shape[-1]} numbers a token, not width_at's {width}"
        x = tower.advance(layer, x, places=places)
    _check_features(tower, x)


def _check_stages(tower: HierarchicalTower, images: Tensor) -> None:
    x = tower.embed(images)
    assert (x.ndim, len(x)) == (4, len(images)), f"embed gives {tuple(x.shape)}, which is not (B, H, W, D)"
    for layer in range(tower.depth):
        width = tower.width_at(layer)
        assert x.shape[-1] == width, f"block {layer} is given {x.shape[-1]} numbers a token, not width_at's {width}"
        x, _ = tower.advance_grid(layer, x, None, both=False)
    _check_features(tower, x)


def _check_features(tower: ImageTower, x: Tensor) -> None:
    shape = tuple(tower.readout(x).shape)
    assert shape == (len(x), tower.num_features), f"readout gives {shape}, which is not (B, num_features)"


def _check_batch(tower: ImageTower, images: Tensor) -> float:
    together, alone = tower.features(images), tower.features(images[:1])
    return _close("an image's features depend on the rest of its batch", alone, together[:1])


def _check_read(tower: ImageTower, images: Tensor) -> float:
    if tower.read is None:
        return 0.0
    x = tower.embed(images)
    # What norms do not take away: other values, and not the same ones shifted.
    others = torch.cat([x[:, : tower.read], x[:, tower.read :].flip(-1) * 2], dim=1)
    return _close("readout looks beyond the first `read` tokens", tower.readout(others), tower.readout(x))


def _check_attention(tower: ImageTower, images: Tensor, layer: int) -> float:
    """A context that all images share and one of each, without a mask and with one."""
    x, places = tower.embedded(images)
    generator = torch.Generator(x.device.type).manual_seed(layer)
    x = torch.randn((*x.shape[:2], tower.width_at(layer)), generator=generator, dtype=x.dtype)
    shared, own = torch.randn(1, 2, x.shape[-1], generator=generator, dtype=x.dtype), x.flip(0)[:, :1] + 1
    together = torch.cat([shared.expand(len(x), -1, -1), own, x], dim=1)
    behind = _behind(places, together.shape[1] - x.shape[1], x)
    what = f"attention only: block {layer}"
    expected = tower.run(layer, together, None, behind)[:, 3:]
    error = _close(what, tower.advance(layer, x, [shared, own], places=places), expected)
    seen = torch.ones(x.shape[1], together.shape[1], dtype=torch.bool)
    seen[:, 1] = False
    expected = tower.advance(layer, x, [shared[:, :1], own], places=places)
    masked = tower.advance(layer, x, [shared, own], seen, places=places)
    return max(error, _close(f"{what}, with a token that is not seen", masked, expected))


def _check_block(tower: ImageTower, images: Tensor, layer: int) -> float:
    if in_stages(tower):
        return _check_beside(tower, images, layer)
    return _check_attention(tower, images, layer)


def _check_beside(tower: HierarchicalTower, images: Tensor, layer: int) -> float:
    """No prompts are the library's own block; advanced prompts, or those that are not, leave tokens as they are."""
    x = tower.embed(images)
    for before in range(layer):
        x, _ = tower.advance_grid(before, x, None, both=False)
    prompts = torch.randn(1, 3, x.shape[-1], generator=torch.Generator(x.device.type).manual_seed(layer), dtype=x.dtype)
    none, what = prompts[:, :0], f"attention only: block {layer}"
    own, errors = tower.own(layer, x), []
    for both in (False, True):
        errors.append(_close(f"{what}, without prompts", tower.beside(layer, x, none, both=both)[0], own))
    expected, carried = tower.beside(layer, x, prompts, both=True)
    for given in (prompts, tower.attended(layer, prompts), prompts.expand(len(x), -1, -1)):
        errors.append(_close(what, tower.beside(layer, x, given, both=False)[0], expected))
    shape = (len(x), *prompts.shape[1:])
    got = None if carried is None else tuple(carried.shape)
    assert got == shape, f"{what}: prompts that are advanced are not {shape} but {got}"
    return max(errors)


def _behind(places: Places | None, context: int, x: Tensor) -> Places | None:
    return None if places is None else places.behind(context, x.shape[1], x)


def _prompted(tower: ImageTower, images: Tensor, method: str, options: Mapping[str, Any]) -> Prompted:
    torch.manual_seed(1)
    preprocessing = Preprocessing((images.shape[-2], images.shape[-1]))
    model = attach(copy.deepcopy(tower), method, num_classes=3, preprocessing=preprocessing, **options).double()
    if model.needs_images:
        model.initialise(images)
    return model.train()


def _check_method(model: Prompted, images: Tensor, name: str) -> float:
    fast, plain = (_values(model, images, plain=plain) for plain in (False, True))
    assert len(fast) == len(plain), f"{name}: a gradient is there in one form and not in the other"
    return max(_close(f"{name}: fast and plain form", got, expected) for got, expected in zip(fast, plain, strict=True))


def _values(model: Prompted, images: Tensor, plain: bool) -> list[Tensor]:
    torch.manual_seed(2)
    features = model.features(images, plain=plain)
    weights = torch.linspace(-1, 1, features.shape[1], dtype=features.dtype)
    learned = model.parameter_groups()
    tuned = learned.get("prompts", []) + learned.get("backbone", [])
    gradients = torch.autograd.grad((features * weights).sum() + features.pow(2).sum(), tuned, allow_unused=True)
    return [features.detach(), *(each for each in gradients if each is not None)]


def _check_frozen(model: Prompted, images: Tensor, name: str) -> None:
    before = {key: tensor.clone() for key, tensor in model.frozen_state().items()}
    learned = [parameter for group in model.parameter_groups().values() for parameter in group]
    optimizer = torch.optim.SGD(learned, lr=0.1)
    model(images).logsumexp(-1).sum().backward()
    missing = [p for p in model.parameter_groups().get("prompts", []) if p.grad is None or not p.grad.any()]
    assert not missing, f"{name}: no gradient reaches {len(missing)} of its prompts"
    optimizer.step()
    changed = [key for key, tensor in model.frozen_state().items() if not torch.equal(tensor, before[key])]
    assert not changed, f"{name}: training changed {', '.join(changed[:3])} of the frozen tower"
