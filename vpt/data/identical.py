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

    One file that is in two splits by the design of a data set, as ImageNet's validation images are, is not told.
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
                if copy.path != first.path:
                    told.setdefault(what, []).append((copy.path, first.path))
    for what, pairs in told.items():
        tell(f"{len(pairs)} {what}, first {pairs[0][0]}, which is also {pairs[0][1]}: keep one of them.")


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
        if len({copy.path for copy in group}) > 1:
            for copy in group:
                found.setdefault(hashlib.sha256(copy.path.read_bytes()).hexdigest(), []).append(copy)
    return [group for group in found.values() if len(group) > 1]
