"""Intervals of shares, and which rows of a table test images tell apart."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vpt.report.intervals import (
    Hits,
    Measured,
    against_best,
    paired,
    paired_bootstrap,
    told_apart,
    verdict,
    wilson,
    with_intervals,
)


@pytest.mark.parametrize(
    # Of 0 and 10 in 10, and of 81 in 263: Newcombe, Statistics in Medicine 1998, pages 857 to 872, table I.
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits / count, count) == pytest.approx((low, high), abs=5e-5)


def test_a_difference_is_told_by_newcombes_interval() -> None:
    # 56 of 70 and 48 of 80, of which the paper gives 0.0524 to 0.3339; here both are of as many images.
    assert told_apart(Measured(0.8, 80), Measured(0.6, 80))
    assert not told_apart(Measured(0.75, 80), Measured(0.8, 80))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10_000))
def test_more_images_tell_no_less_apart(one: float, other: float, count: int) -> None:
    first, second = Measured(one, count), Measured(other, count)
    assert not told_apart(first, first)
    assert told_apart(first, second) == told_apart(second, first)
    if told_apart(first, second):
        assert told_apart(Measured(one, 4 * count), Measured(other, 4 * count))


def half_a_point_apart() -> tuple[list[bool], list[bool]]:
    """70 % of 500 images, and the same but for ten of them."""
    generator = torch.Generator().manual_seed(1)
    first = (torch.rand(500, generator=generator) < 0.7).tolist()
    rights = [index for index, right in enumerate(first) if right][:10]
    return first, [right and index not in rights for index, right in enumerate(first)]


def test_a_paired_bootstrap_tells_apart_what_unpaired_intervals_do_not() -> None:
    first, second = half_a_point_apart()
    found = paired_bootstrap(first, second)
    assert (found["only_first"], found["only_second"]) == (10, 0)
    assert found["difference"] == pytest.approx(0.02)
    assert 0 < found["low"] < 0.02 < found["high"]
    same = paired_bootstrap(first, first)
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def test_a_paired_interval_is_students_of_images_for_one_seed() -> None:
    first, second = half_a_point_apart()
    difference, low, high = paired([first], [second])
    assert difference == pytest.approx(0.02)
    # McNemar's table: 10 of 500 differ, all to one side. t of 499 degrees of freedom is 1.9647.
    half = 1.9647 * (0.02 * (1 - 0.02) / 499) ** 0.5
    assert (low, high) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-5)


def test_seeds_that_differ_widen_it_as_few_as_they_are() -> None:
    # A row gains 30, 0 and -3 images of 300 on another: the mean is 9, and the images alone tell it from 0.
    second = [[index < 150 for index in range(300)]] * 3
    first = [[index < 150 + more for index in range(300)] for more in (30, 0, -3)]
    difference, low, high = paired(first, second)
    assert difference == pytest.approx(9 / 300)
    assert low < 0 < high
    names = [str(index) for index in range(300)]
    lucky, other = Measured(0.53, 300, Hits(names, first)), Measured(0.5, 300, Hits(names, second))
    assert not told_apart(lucky, other)
    # The seeds' part is most of it: their mean with Student's t of 2 degrees of freedom, 4.303.
    of_seeds = 4.303 * statistics.stdev([0.1, 0, -0.01]) / 3**0.5
    assert of_seeds < high - difference < 1.05 * of_seeds
    steady = [[index < 159 for index in range(300)]] * 3
    assert told_apart(Measured(0.53, 300, Hits(names, steady)), other)


@pytest.mark.parametrize("luck", [0.0, 0.05, 0.2])
def test_the_interval_holds_the_truth_as_often_as_it_says(luck: float) -> None:
    generator = torch.Generator().manual_seed(3)
    held = 0
    for _ in range(400):
        # How easy an image is, the luck of a seed of each row, and noise: the rows are equally good.
        ease, lucky = torch.randn(400, generator=generator), luck * torch.randn(2, 3, 1, generator=generator)
        right = ease + lucky + torch.randn(2, 3, 400, generator=generator) > 0
        _, low, high = paired(*right.tolist())
        held += low <= 0 <= high
    assert held >= 0.95 * 400


def test_rows_that_are_the_same_are_not_told_apart() -> None:
    first, _ = half_a_point_apart()
    assert paired([first, first], [first, first]) == (0, 0, 0)


def test_rows_of_the_same_images_are_paired_and_others_are_not() -> None:
    names = [f"{index}.png" for index in range(500)]
    first, second = (Measured(sum(hits) / 500, 500, Hits(names, [hits])) for hits in half_a_point_apart())
    assert told_apart(first, second)
    assert not told_apart(first._replace(hits=None), second)
    assert second.hits
    assert not told_apart(first, second._replace(hits=second.hits._replace(names=names[::-1])))
    twice, thrice = ([*row.hits.right] * seeds for row, seeds in ((first, 2), (second, 3)) if row.hits)
    assert not told_apart(first._replace(hits=Hits(names, twice)), second._replace(hits=Hits(names, thrice)))


def test_a_row_that_was_run_once_stands_against_each_seed_of_another() -> None:
    first, second = half_a_point_apart()
    assert paired([first], [second, second]) == paired([first, first], [second, second])
    names = [str(index) for index in range(500)]
    once, thrice = Measured(0.7, 500, Hits(names, [first])), Measured(0.68, 500, Hits(names, [second] * 3))
    assert told_apart(once, thrice)


def test_rows_say_what_they_are_against_the_best() -> None:
    measured = {"a": Measured(0.9, 100), "b": Measured(0.88, 100), "c": Measured(0.5, 100)}
    table = with_intervals([{"run": label, "test top-1 (%)": "", "tuned": 1} for label in measured], measured)
    assert list(table[0]) == ["run", "test top-1 (%)", "95 % interval", "against the best", "tuned"]
    assert [row["against the best"] for row in table] == ["best", "not told apart, not paired", "lower, not paired"]
    assert table[0]["95 % interval"] == "82.6 – 94.5"
    assert verdict(table) == "best on test images: a; not told apart from it: b"


def test_rows_of_the_same_images_say_no_more_than_what_they_are() -> None:
    names = [str(index) for index in range(500)]
    first, second = (Measured(sum(hits) / 500, 500, Hits(names, [hits])) for hits in half_a_point_apart())
    told = against_best({"a": first, "b": second, "c": first._replace(top1=0.2, hits=None)})
    assert [told[label]["against the best"] for label in "abc"] == ["best", "lower", "lower, not paired"]


def test_without_test_images_there_is_no_interval() -> None:
    table = [{"run": "a"}]
    assert with_intervals(table, {}) == table
    assert verdict(table) == ""
