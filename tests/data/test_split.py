"""Splits and shots: stratified, disjoint, the same everywhere, and CoOp's own."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vpt.data.split import few_shot, stratified

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=80)


@given(LABELS, st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 2**31))
def test_parts_are_disjoint_and_complete(labels: list[int], val: float, test: float, seed: int) -> None:
    parts = stratified(labels, [val, test], seed)
    assert sorted(index for part in parts for index in part) == list(range(len(labels)))
    assert parts == stratified(labels, [val, test], seed)


@given(LABELS, st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.integers(0, 100))
def test_every_class_is_in_every_part_as_far_as_its_count_allows(
    labels: list[int], val: float, test: float, seed: int
) -> None:
    parts = [Counter(labels[i] for i in part) for part in stratified(labels, [val, test], seed)]
    for label, count in Counter(labels).items():
        assert parts[0][label] >= 1
        if count > 2:
            assert parts[1][label] >= 1
            assert parts[2][label] >= 1
        for part, fraction in zip(parts[1:], (val, test), strict=True):
            assert abs(part[label] - fraction * count) <= 1.5


def test_another_seed_deals_otherwise() -> None:
    labels = [0] * 50 + [1] * 50
    assert stratified(labels, [0.2], 0) != stratified(labels, [0.2], 1)


@given(LABELS, LABELS, st.integers(1, 16), st.integers(0, 5))
def test_shots_are_the_published_sampling(train: list[int], val: list[int], shots: int, seed: int) -> None:
    """Spelled out as it is published: one global generator, classes in the order they are met, train first."""
    random.seed(seed)
    expected = []
    for labels, count in ((train, shots), (val, min(shots, 4))):
        grouped: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            grouped.setdefault(label, []).append(index)
        chosen: list[int] = []
        for items in grouped.values():
            chosen.extend(random.sample(items, count) if len(items) >= count else items)
        expected.append(chosen)
    assert list(few_shot(train, val, shots, seed)) == expected


def test_shots_as_numbers() -> None:
    """Python's generator is the same on every platform: these indices must never change."""
    train, val = [0] * 10 + [1] * 10, [1] * 6 + [0] * 6
    assert few_shot(train, val, 2, seed=1) == ([2, 1, 14, 11], [3, 5, 9, 11])
