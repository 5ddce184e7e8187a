"""A layer scale and the sum behind it: one operation each way, with the numbers and gradients of two."""

from collections.abc import Callable

import pytest
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import LayerScale
from torch import Tensor, nn

from tests.operations import operations
from vpt.towers.scaling import added, scaled
from vpt.towers.stages import Mlp, Out, ending, plus, same


def plain(x: Tensor, found: Tensor, scale: Tensor | None) -> Tensor:
    """The definition."""
    return x + found if scale is None else x + scale * found


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, found = (torch.randn(2, 5, 3).double().requires_grad_() for _ in range(2))
    return x, found, torch.randn(3).double()


@pytest.mark.parametrize("kind", ["frozen", "trained", "none"])
def test_values_and_gradients_of_both_kinds_are_those_of_a_product_and_a_sum(kind: str) -> None:
    results = []
    for form in (added, plain):
        x, found, scale = inputs()
        wanted = (x, found, scale.requires_grad_()) if kind == "trained" else (x, found)
        value = form(x, found, None if kind == "none" else scale)
        first = torch.autograd.grad(value.sin().sum(), wanted, create_graph=True)
        second = torch.autograd.grad(torch.stack([each.square().sum() for each in first]).sum(), wanted)
        results.append([value, *first, *second])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


def test_a_frozen_scale_is_one_operation_each_way() -> None:
    def counted(form: Callable[[Tensor, Tensor, Tensor | None], Tensor]) -> int:
        x, found, scale = inputs()
        gradient = torch.ones_like(x)
        return operations(lambda: torch.autograd.grad(form(x, found, scale), (x, found), gradient)).total()

    assert counted(added) == 2
    assert counted(plain) == 3


def test_without_gradients_too() -> None:
    x, found, scale = inputs()
    with torch.no_grad():
        assert operations(lambda: added(x, found, scale)).total() == 1
        torch.testing.assert_close(added(x, found, scale), plain(x, found, scale), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "steps",
    [
        (LayerScale(3, 0.5),),
        (nn.Dropout(0.3).eval(), LayerScale(3, 0.5), DropPath(0.2).eval()),
        (nn.Dropout(0.0), torch.full((3,), 0.5), nn.Identity()),
        (nn.LayerNorm(3), LayerScale(3, 0.5), None),
    ],
)
def test_a_scale_that_comes_last_stands_apart(steps: tuple[object, ...]) -> None:
    end, scale = ending(*steps)
    x = torch.randn(2, 5, 3)
    assert scale is not None
    assert torch.equal(scale, torch.full((3,), 0.5))
    torch.testing.assert_close(scaled(scale, end(x)), one_by_one(steps, x))


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, given, found: found + 1)
    return module


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (1.0, None),
        (nn.Dropout(0.3).eval(), nn.LayerNorm(3)),
        (LayerScale(3, 0.5), nn.LayerNorm(3)),
        (hooked(LayerScale(3, 0.5)),),
        (LayerScale(3, 0.5), hooked(nn.Identity())),
        (torch.full((3,), 0.5), nn.Dropout(1.0)),
    ],
)
def test_what_does_more_than_scale_or_is_looked_at_is_called_in_its_turn(steps: tuple[object, ...]) -> None:
    end, scale = ending(*steps)
    x = torch.randn(2, 5, 3)
    assert scale is None
    torch.testing.assert_close(end(x), one_by_one(steps, x))


def one_by_one(steps: tuple[object, ...], x: Tensor) -> Tensor:
    for step in steps:
        x = x if step is None else step(x) if callable(step) else step * x
    return x


@pytest.mark.parametrize("kind", ["out", "mlp"])
def test_what_comes_behind_a_stage_sees_what_is_scaled(kind: str) -> None:
    layers, scale, x = [nn.Linear(3, 3) for _ in range(2)], torch.tensor([0.5, 2.0, 3.0]), torch.randn(2, 5, 3)
    if kind == "out":
        stage: Out | Mlp = Out(layers[0], torch.sin, scale)
        given, value = (x, x), scale * layers[0](x).sin()
    else:
        stage = Mlp(same, layers[0], torch.relu, layers[1], torch.sin, scale)
        given, value = (x,), scale * layers[1](layers[0](x).relu()).sin()
    torch.testing.assert_close(stage(*given), value)
    torch.testing.assert_close(plus(x, stage, *given), x + value)
    torch.testing.assert_close(stage.ending(torch.cos)(*given), value.cos())
