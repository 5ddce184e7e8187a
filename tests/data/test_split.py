"""Splits and shots: stratified, disjoint, the same everywhere, and CoOp's own."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpt
from vpt.data.split import few_shot, halves, stratified

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


# Seed and shots: what is drawn of the class that is met last, 1 in training and 2 in validation. Written down by a
# program of its own, from the published rule; every draw before these moves them.
DRAWN = {
    (1, 1): ([8], [11]),
    (1, 2): ([11, 47], [5, 2]),
    (1, 4): ([38, 20, 11, 47], [5, 14, 2, 17]),
    (1, 8): ([41, 2, 44, 26, 23, 29, 5, 17], [5, 11, 2, 8]),
    (1, 16): ([41, 2, 50, 23, 44, 53, 26, 11, 17, 38, 32, 47, 14, 56, 29, 59], [8, 14, 11, 17]),
    (2, 1): ([8], [17]),
    (2, 2): ([17, 29], [2, 14]),
    (2, 4): ([59, 5, 17, 41], [2, 8, 11, 5]),
    (2, 8): ([50, 35, 53, 44, 26, 59, 2, 41], [5, 17, 14, 2]),
    (2, 16): ([53, 17, 23, 59, 2, 8, 56, 44, 38, 26, 32, 41, 35, 11, 20, 14], [17, 11, 5, 14]),
    (3, 1): ([53], [14]),
    (3, 2): ([35, 47], [2, 11]),
    (3, 4): ([47, 26, 53, 23], [5, 14, 11, 8]),
    (3, 8): ([47, 53, 56, 59, 38, 32, 41, 8], [2, 8, 17, 5]),
    (3, 16): ([17, 56, 5, 29, 2, 41, 44, 14, 23, 50, 20, 32, 26, 59, 38, 11], [17, 11, 8, 5]),
}


@pytest.mark.parametrize(("seed", "shots"), DRAWN)
def test_the_shots_of_the_papers_are_these_images(seed: int, shots: int) -> None:
    train, val = [2, 0, 1] * 20, [1, 0, 2] * 6
    drawn_train, drawn_val = few_shot(train, val, shots, seed)
    assert [train[i] for i in drawn_train] == [2] * shots + [0] * shots + [1] * shots
    assert len(drawn_val) == 3 * min(shots, 4)
    assert (drawn_train[2 * shots :], drawn_val[2 * min(shots, 4) :]) == DRAWN[seed, shots]


def test_validation_images_are_drawn_after_those_for_training_by_the_same_generator() -> None:
    train, val = [0] * 20, [0] * 20
    assert few_shot(train, val, 4, 1)[0] == few_shot(train, None, 4, 1)[0]
    assert few_shot(train, val, 4, 1)[1] != few_shot(val, None, 4, 1)[0]
    assert few_shot([0] * 40, val, 4, 1)[1] == random_after(4, range(40), range(20))


def test_validation_images_can_be_drawn_first() -> None:
    train, val = [0] * 40, [0] * 20
    assert few_shot(train, val, 4, 1, first="val") == (
        random_after(4, range(20), range(40)),
        few_shot(val, [], 4, 1)[0],
    )
    assert few_shot(train, None, 4, 1, first="val") == few_shot(train, None, 4, 1)
    drawn = [
        [vpt.data.load("digits", shots=4, seed=1, **options).train.name(0) for options in ({}, {"shots_first": first})]
        for first in ("train", "val")
    ]
    assert [one == other for one, other in drawn] == [True, False]
    for options in ({"shots_first": "val"}, {"shots": 1, "shots_first": "test"}):
        with pytest.raises(vpt.VptError, match=r"data\.shots_first="):
            vpt.data.load("digits", **options)


def random_after(shots: int, first: range, second: range) -> list[int]:
    generator = random.Random(1)
    generator.sample(first, shots)
    return generator.sample(second, shots)


def test_base_classes_are_the_first_half_and_the_odd_one() -> None:
    assert halves(10) == {"base": range(5), "new": range(5, 10)}
    assert halves(47) == {"base": range(24), "new": range(24, 47)}
