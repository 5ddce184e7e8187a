"""Normalised features and their gradients are torch's, for fewer operations."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.measure import saved_bytes
from tests.operations import operations
from vpt.normalised import normalised


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    found = function(x)
    (found * torch.arange(found.numel(), dtype=x.dtype).view_as(found).cos()).sum().backward()
    assert x.grad is not None
    return found.detach(), x.grad


def torchs(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 4), min_size=0, max_size=3), st.integers(1, 9), st.floats(-8, 8), st.integers(0, 99))
def test_it_is_torchs_normalisation(rows: list[int], width: int, exponent: float, seed: int) -> None:
    x = torch.randn(*rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10**exponent
    for found, expected in zip(value_and_gradient(normalised, x), value_and_gradient(torchs, x), strict=True):
        # Gradients are as large as features are short.
        least = min(1.0, float(x.norm(dim=-1).min()))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 / least)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_other_precisions(dtype: torch.dtype) -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = value_and_gradient(torchs, x.double())
    for found, own, right in zip(value_and_gradient(normalised, x), value_and_gradient(torchs, x), exact, strict=True):
        assert found.dtype == own.dtype == dtype
        assert (found - right).norm() <= 1.1 * (own - right).norm()


def test_what_has_no_length_stays_finite() -> None:
    x = torch.zeros(2, 5, dtype=torch.float64)
    for found, expected in zip(value_and_gradient(normalised, x), value_and_gradient(torchs, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_it_says_less_to_a_device() -> None:
    x = nn.Parameter(torch.randn(4, 6))

    def backward(function: Callable[[Tensor], Tensor]) -> int:
        found = function(x)
        return operations(lambda: found.backward(torch.ones_like(found), inputs=[x])).total()

    assert backward(normalised) <= backward(torchs) - 8
    with torch.no_grad():
        assert operations(lambda: normalised(x)) == operations(lambda: torchs(x))


def test_it_keeps_no_more_for_its_gradient() -> None:
    x = torch.randn(40, 60, requires_grad=True)
    own, theirs = (saved_bytes(lambda f=f: f(x)) for f in (normalised, torchs))
    assert own <= theirs


def test_it_can_be_differentiated_twice() -> None:
    """As penalties on gradients want it, which are lost without a word where it cannot."""
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(normalised, x)
    penalties = []
    for function in (normalised, torchs):
        (gradient,) = torch.autograd.grad(function(x)[0, 0], x, create_graph=True)
        penalties += torch.autograd.grad(gradient.square().sum(), x)
    torch.testing.assert_close(*penalties)


def test_compilers_see_through_it() -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    compiled = torch.compile(normalised, fullgraph=True, backend="aot_eager")
    for found, expected in zip(value_and_gradient(compiled, x), value_and_gradient(torchs, x), strict=True):
        torch.testing.assert_close(found, expected)
