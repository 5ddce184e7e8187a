"""Intervals of shares, and which rows of a table test images tell apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpt.report.intervals import told_apart, verdict, wilson, with_intervals


@pytest.mark.parametrize(
    # Of 0 and 10 in 10, and of 81 in 263: Newcombe, Statistics in Medicine 1998, pages 857 to 872, table I.
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits / count, count) == pytest.approx((low, high), abs=5e-5)


def test_a_difference_is_told_by_newcombes_interval() -> None:
    # 56 of 70 and 48 of 80, of which the paper gives 0.0524 to 0.3339; here both are of as many images.
    assert told_apart(0.8, 0.6, 80)
    assert not told_apart(0.8, 0.75, 80)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10_000))
def test_more_images_tell_no_less_apart(one: float, other: float, count: int) -> None:
    high, low = max(one, other), min(one, other)
    assert not told_apart(high, high, count)
    if told_apart(high, low, count):
        assert told_apart(high, low, 4 * count)


def result(top1: float, count: int = 100) -> list[dict[str, Any]]:
    return [{"test": {"top1": top1}, "data": {"sizes": {"test": count}}}]


def test_rows_say_what_they_are_against_the_best() -> None:
    results = {"a": result(0.9), "b": result(0.88), "c": result(0.5)}
    table = with_intervals([{"run": label, "test top-1 (%)": "", "tuned": 1} for label in results], results)
    assert list(table[0]) == ["run", "test top-1 (%)", "95 % interval", "against the best", "tuned"]
    assert [row["against the best"] for row in table] == ["best", "not told apart", "lower"]
    assert table[0]["95 % interval"] == "82.6 – 94.5"
    assert verdict(table) == "best on test images: a; not told apart from it: b"


def test_without_test_images_there_is_no_interval() -> None:
    table = [{"run": "a"}]
    assert with_intervals(table, {"a": [{"test": {}, "data": {"sizes": {}}}]}) == table
    assert verdict(table) == ""
