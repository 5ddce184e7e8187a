"""Splits and shots: which images are trained on, selected on, and reported."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal


def stratified(labels: Sequence[int], fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Indices of all of `labels` dealt into a first part and one part for each of `fractions`.

    Every class is dealt by itself, in the same proportions as far as its count allows: a part with a
    fraction above 0 gets at least one image of each class that has enough for every part. The deal is a
    function of labels, fractions and seed alone, on every platform.

    Returns:
        One more list than there are fractions, the rest first; each in ascending order.
    """
    generator = random.Random(seed)
    parts: list[list[int]] = [[] for _ in range(len(fractions) + 1)]
    for members in by_label(labels).values():
        order = generator.sample(members, len(members))
        enough = len(members) > sum(fraction > 0 for fraction in fractions)
        for index, fraction in enumerate(fractions, 1):
            count = max(round(fraction * len(members)), int(enough and fraction > 0))
            count = min(count, len(order) - 1)
            parts[index] += order[:count]
            order = order[count:]
        parts[0] += order
    return [sorted(part) for part in parts]


def few_shot(
    train: Sequence[int], val: Sequence[int] | None, shots: int, seed: int, first: Literal["train", "val"] = "train"
) -> tuple[list[int], list[int] | None]:
    """Indices of `shots` training images a class, and of min(shots, 4) validation images.

    The sampling of CoOp (Zhou et al., IJCV 2022), whose published few-shot splits it gives: one generator
    for both, classes in the order of their first image, training images first. A class with fewer images
    gives all that it has, where CoOp would draw some of them twice.

    Args:
        train: labels of the training images.
        val: labels of the validation images, where there are any.
        shots: images a class.
        seed: 1 to 3 in the papers.
        first: which are drawn before the others; "val" in the code of CLIP-LoRA (Zanella and Ben Ayed, 2024).
    """
    generator = random.Random(seed)

    def draw(labels: Sequence[int], count: int) -> list[int]:
        drawn: list[int] = []
        for members in by_label(labels).values():
            drawn += generator.sample(members, count) if len(members) >= count else members
        return drawn

    if val is None:
        return draw(train, shots), None
    if first == "train":
        return draw(train, shots), draw(val, min(shots, 4))
    held_out = draw(val, min(shots, 4))
    return draw(train, shots), held_out


def dealt(names: Sequence[str], fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Indices of all of `names` dealt into a first part and one part for each of `fractions`.

    What has the same name, as an image that is repeated for training, goes to one part; parts other than the
    first take it once. The deal is a function of names, fractions and seed alone.

    Returns:
        One more list than there are fractions, the rest first; each in ascending order.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    parts = stratified([0] * len(groups), fractions, seed)
    members = list(groups.values())
    rest = sorted(index for group in parts[0] for index in members[group])
    return [rest, *(sorted(members[group][0] for group in part) for part in parts[1:])]


def halves(count: int) -> dict[str, range]:
    """Labels of the "base" classes, the first half and the odd one, and of the "new" ones (CoCoOp, CVPR 2022)."""
    middle = (count + 1) // 2
    return {"base": range(middle), "new": range(middle, count)}


def by_label(labels: Sequence[int]) -> dict[int, list[int]]:
    """Indices of each label's images, labels in the order of their first image."""
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return members
