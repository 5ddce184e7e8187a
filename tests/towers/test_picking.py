"""Tokens that are picked beside all others: numbers and gradients are those of slices, in fewer operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.operations import operations
from vpt.towers.packing import Layout, in_rows, packed, read_last
from vpt.towers.picking import Neighbours, beside

WORDS = 11


def apart(x: Tensor, pick: Neighbours) -> tuple[Tensor, Tensor]:
    """The definition."""
    return x, x[:, pick.first : pick.first + pick.count]


@pytest.mark.parametrize("pick", [Neighbours(0, 1), Neighbours(2, 3), Neighbours(4, 1)])
@pytest.mark.parametrize("used", ["both", "whole", "picked"])
def test_gradients_are_those_of_slices(pick: Neighbours, used: str) -> None:
    torch.manual_seed(0)
    start, weights = torch.randn(2, 5, 3).double(), torch.randn(2, 5, 3).double()

    def gradient(form: object) -> Tensor:
        x = start.clone().requires_grad_()
        whole, picked = form(x * 2, pick)
        found = (whole.sin() * weights).sum() if used != "picked" else 0
        (found + (picked.cos().sum() if used != "whole" else 0)).backward()
        return x.grad

    assert torch.equal(gradient(beside), gradient(apart))


def test_it_is_fewer_operations() -> None:
    def passes(form: object) -> int:
        x = torch.randn(2, 5, 3, requires_grad=True) * 2
        whole, picked = form(x, Neighbours(0, 1))
        loss = F.layer_norm(whole, (3,)).sin().sum() + picked.sum()
        return operations(loss.backward).total()

    # By two with torch 2.7, which makes the zeros around what was picked in an operation of their own.
    assert passes(beside) < passes(apart)


def test_without_gradients_and_with_other_picks_it_is_what_was_given() -> None:
    x = torch.randn(2, 5, 3)
    assert beside(x, Neighbours(0, 1))[0] is x
    x.requires_grad_()
    whole, picked = beside(x, lambda x: x[:, ::2])
    assert whole is x
    assert torch.equal(picked, x[:, ::2])


def layout(lengths: list[int], size: int, *, causal: bool, context: int = 2) -> Layout:
    """Texts of a start token, context, words and an end token."""
    torch.manual_seed(1)
    codes = torch.randint(3, WORDS, (len(lengths), size))
    codes[:, 0], codes[:, 1 : 1 + context] = 1, -2 - torch.arange(context)
    columns, ends = torch.arange(size), torch.tensor(lengths)
    codes[torch.arange(len(lengths)), ends - 1] = 2
    needed = columns < ends[:, None] if causal else torch.ones_like(codes, dtype=torch.bool)
    seen = (columns <= columns[:, None])[None] if causal else None
    return Layout(codes, columns, needed, seen, ends - 1, causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("grid", [1, 4])
def test_what_is_read_stands_last_and_sees_what_it_saw(causal: bool, grid: int) -> None:
    texts = layout([5, 9, 6, 7, 9, 5, 8], 10, causal=causal)
    placed = packed(texts, 8, grid=grid) if causal else in_rows(texts)
    before, after = placed.texts, read_last(placed, grid=grid).texts
    rows, length = after.codes.shape
    at_end = after.at_the_end()
    assert at_end is not None
    assert before.at_the_end() is None

    def seen_by_each(texts: object) -> list[list[tuple[int, int]]]:
        """What the token that is read of each text sees: codes and positions, in any order."""
        codes, context = texts.codes.flatten().clone(), texts.context
        codes[texts.learned] = -2 - (torch.arange(len(texts.learned)) if context is None else context)
        of_text = texts.picked if texts.order is None else texts.picked[texts.order]
        found = []
        for place in of_text.tolist():
            row, column = divmod(place, length)
            seen = torch.ones(length, dtype=torch.bool) if texts.seen is None else texts.seen[row, column]
            tokens = zip(codes.view(rows, length)[row][seen], texts.positions[row][seen], strict=True)
            found.append(sorted((int(code), int(position)) for code, position in tokens))
        return found

    assert seen_by_each(after) == seen_by_each(before)
    flat = torch.arange(rows * length).view(rows, length)
    assert torch.equal(at_end(flat).flatten(), after.picked)
    assert after.start == before.start == 1


def test_rows_that_share_what_they_see_stay_as_they_are() -> None:
    placed = in_rows(layout([5, 9], 10, causal=True))
    assert read_last(placed) is placed
