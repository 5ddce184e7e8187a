"""A plain form for methods that change blocks: the library's own model, with what is learned put into its modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.zoo import images_for, timm_features

Put = Callable[[nn.Module, nn.Module], None]


def filled(model: vpt.Prompted, size: float = 0.1) -> vpt.Prompted:
    """The same model, with every number that is learned moved away from where it began."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def library_features(model: nn.Module, images: Tensor) -> Tensor:
    """timm's own features."""
    return timm_features(model, images)


def assert_learns_alike(
    make: Callable[[], nn.Module], method: Any, options: dict[str, Any], put: Put, steps: int = 20, **more: Any
) -> vpt.Prompted:
    """Features, gradients and so many steps of training are, in float64, those of the library's own forward pass.

    Args:
        make: timm's model.
        method: and
        options: of `vpt.attach`.
        put: puts a copy of the method's parameters into timm's model, by hooks and modules of its own.
        steps: of SGD on a batch of images.
        more: of `vpt.attach`.
    """
    torch.manual_seed(1)
    model = filled(vpt.attach(make(), method, num_classes=3, **options, **more).double())
    library, learned = make().double().requires_grad_(False), copy.deepcopy(model.method)
    put(library, learned)
    images, labels = images_for(library), torch.tensor([0, 1, 2])
    weight = torch.randn(3, model.tower.num_features, dtype=torch.float64)
    sides = (
        (lambda: model.features(images), dict(model.method.named_parameters())),
        (lambda: library_features(library, images), dict(learned.named_parameters())),
    )
    optimizers = [torch.optim.SGD(parameters.values(), lr=0.01, momentum=0.9) for _, parameters in sides]
    for step in range(steps):
        found = []
        for (features, _), optimizer in zip(sides, optimizers, strict=True):
            optimizer.zero_grad()
            value = features()
            F.cross_entropy(value @ weight.T, labels).backward()
            optimizer.step()
            found.append(value.detach())
        torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)
        if not step:
            torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)
            for name, parameter in sides[0][1].items():
                assert parameter.grad is not None, name
                assert parameter.grad.abs().sum() > 0, name
                torch.testing.assert_close(parameter.grad, sides[1][1][name].grad, rtol=1e-9, atol=1e-10, msg=name)
    for name, parameter in sides[0][1].items():
        torch.testing.assert_close(parameter, sides[1][1][name], rtol=1e-7, atol=1e-8, msg=name)
    return model
