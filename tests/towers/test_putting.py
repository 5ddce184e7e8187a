"""Vectors that are put among tokens: numbers and gradients are those of a concatenation, in fewer operations."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.operations import operations
from vpt.towers.putting import put


def concatenated(x: Tensor, vectors: Tensor, start: int) -> Tensor:
    """The definition."""
    rows = vectors.repeat_interleave(len(x) // len(vectors), dim=0)
    return torch.cat([x[:, :start], rows, x[:, start + vectors.shape[1] :]], dim=1)


def inputs(groups: int, rows: int, length: int, count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(groups * rows, length, 3).double(), torch.randn(groups, count, 3).double()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), st.integers(0, 3))
def test_values_and_gradients_of_both_kinds_are_those_of_a_concatenation(
    groups: int, rows: int, before: int, count: int, behind: int
) -> None:
    found = []
    for form in (put, concatenated):
        x, vectors = (each.requires_grad_() for each in inputs(groups, rows, before + count + behind, count))
        value = form(x * 1, vectors * 1, before)
        first = torch.autograd.grad(value.sin().sum(), (x, vectors), create_graph=True)
        second = torch.autograd.grad(torch.stack([each.square().sum() for each in first]).sum(), (x, vectors))
        found.append([value, *first, *second])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_what_wants_no_gradient_is_given_none() -> None:
    for wanted in (0, 1):
        given_ = inputs(1, 2, 5, 2)
        given_[wanted].requires_grad_()
        put(*given_, 1).sum().backward()
        assert given_[wanted].grad is not None
        assert given_[1 - wanted].grad is None


def test_it_is_fewer_operations() -> None:
    def passes(form: object) -> int:
        x, vectors = (each.requires_grad_() for each in inputs(1, 4, 6, 2))
        loss = form(x * 2, vectors, 1).sin().sum()
        return operations(loss.backward).total()

    assert passes(put) < passes(concatenated)


def test_without_gradients_it_is_the_concatenation() -> None:
    given_ = inputs(2, 2, 5, 2)
    with torch.no_grad():
        assert torch.equal(put(*given_, 2), concatenated(*given_, 2))
