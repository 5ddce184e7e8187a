"""Files of the same bytes in two splits or two classes, which are told: a test image that was trained on is none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vpt.data.base import DataSet, Samples
from vpt.data.pairs import Pairs, PairSet
from vpt.report.notes import tell

KINDS = {"train": "training", "val": "validation", "test": "test", "unlabelled": "unlabelled"}


class Copy(NamedTuple):
    """A file in a split; its label is None where it has captions."""

    split: str
    path: Path
    label: int | None


def tell_identical(data: DataSet | PairSet) -> None:
    """Say how many files are the same, byte for byte, in two splits, or in two classes of the training images.

    One file that is both val and test is so by the design of a data set, as ImageNet's validation images are, and is
    not told.
    """
    told: dict[str, list[tuple[Path, Path]]] = {}
    for same in _copies(data):
        firsts = {copy.split: copy for copy in reversed(same)}
        for copy in same:
            for split, first in firsts.items():
                if split == copy.split and copy.label != first.label:
                    what = f"{KINDS[split]} images are in two classes"
                elif list(KINDS).index(split) < list(KINDS).index(copy.split):
                    what = f"{KINDS[copy.split]} images are the same files as {KINDS[split]} images"
                else:
                    continue
                if copy.path != first.path or not _by_design([copy, first]):
                    told.setdefault(what, []).append((copy.path, first.path))
    for what, pairs in told.items():
        one, other = pairs[0]
        rest = f"{one}: keep it in one" if one == other else f"{one}, which is also {other}: keep one of them"
        tell(f"{len(pairs)} {what}, first {rest}.")


def _by_design(copies: list[Copy]) -> bool:
    """Whether one file may be what all of these are: in one split in one class, or both val and test."""
    splits = {copy.split for copy in copies}
    return splits == {"val", "test"} or len({(copy.split, copy.label) for copy in copies}) == 1


def _copies(data: DataSet | PairSet) -> list[list[Copy]]:
    """Groups of files with the same bytes. Only files of one size are read."""
    splits: Mapping[str, Samples | Pairs] = data.parts() if isinstance(data, DataSet) else data.splits()
    of_size: dict[int, list[Copy]] = {}
    for split, samples in splits.items():
        for index in range(len(samples)):
            path = samples.file(index)
            if path is not None:
                label = samples.labels[index] if isinstance(samples, Samples) else None
                of_size.setdefault(path.stat().st_size, []).append(Copy(split, path, label))
    found: dict[str, list[Copy]] = {}
    for group in of_size.values():
        if len({copy.path for copy in group}) > 1 or not _by_design(group):
            for copy in group:
                found.setdefault(hashlib.sha256(copy.path.read_bytes()).hexdigest(), []).append(copy)
    return [group for group in found.values() if len(group) > 1]
