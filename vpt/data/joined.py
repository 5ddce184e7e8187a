"""Splits of a data set one after the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from PIL import Image

from vpt.data.base import DataSet, Files, Samples
from vpt.data.pairs import JoinedPairs, Pairs, PairSet


class JoinedSamples(Samples):
    """Several `Samples` one after the other, whose labels mean the same classes."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(len(part) for part in parts))
        self.labels = [label for part in parts for label in part.labels]

    def image(self, index: int) -> Image.Image:
        """As its part gives it."""
        part, i = self._place(index)
        return part.image(i)

    def name(self, index: int) -> str:
        """As its part calls it."""
        part, i = self._place(index)
        return part.name(i)

    def stamp(self, index: int) -> str | None:
        """As its part says."""
        part, i = self._place(index)
        return part.stamp(i)

    def stored(self, index: int) -> bool:
        """As its part says."""
        part, i = self._place(index)
        return part.stored(i)

    def file(self, index: int) -> Path | None:
        """As its part says."""
        part, i = self._place(index)
        return part.file(i)

    def subset(self, indices: Sequence[int]) -> Samples:
        """Those at `indices`, in this order."""
        places = [self._place(index) for index in indices]
        if all(part is places[0][0] for part, _ in places):
            return places[0][0].subset([i for _, i in places]) if places else self.parts[0].subset([])
        return JoinedSamples([part.subset([i]) for part, i in places]).named(self.classes)

    def _place(self, index: int) -> tuple[Samples, int]:
        part = bisect_right(self.ends, index)
        return self.parts[part], index - (self.ends[part - 1] if part else 0)


def everything(data: DataSet | PairSet) -> Samples | Pairs:
    """Every image of every split, one after the other; what is in two splits, as in two lists, comes once."""
    return joined_pairs(data) if isinstance(data, PairSet) else joined_samples(data)


def joined_samples(data: DataSet) -> Samples:
    """`everything` of labelled images."""
    parts = list(data.splits().values())
    joined: Samples = JoinedSamples(parts)
    if all(isinstance(part, Files) for part in parts):
        joined = Files([path for part in parts if isinstance(part, Files) for path in part.paths], joined.labels)
    return joined.named(data.classes).subset(_first_places([joined.name(i) for i in range(len(joined))]))


def joined_pairs(data: PairSet) -> Pairs:
    """`everything` of images with captions."""
    joined = JoinedPairs(list(data.splits().values()))
    return joined.subset(_first_places([joined.name(i) for i in range(len(joined))]))


def _first_places(names: Sequence[str]) -> list[int]:
    """Where each name comes first."""
    return sorted({name: place for place, name in reversed(list(enumerate(names)))}.values())
