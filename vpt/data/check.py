"""Every file decoded once before training, so that a broken one is known at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count
from typing import Literal, TypeVar

from vpt.data.base import DataSet, Samples
from vpt.data.pairs import Pairs, PairSet
from vpt.errors import VptError
from vpt.report.notes import first_of, tell
from vpt.report.progress import Progress

Kind = TypeVar("Kind", DataSet, PairSet)


def check_files(data: Kind, broken: Literal["stop", "skip"]) -> Kind:
    """`data` without the files that cannot be decoded, which are named in `skipped`.

    Raises:
        VptError: there are such files and `broken` is "stop", or none but such files in a split.
    """
    splits: Mapping[str, Samples | Pairs] = data.splits()
    bad = {split: _undecodable(samples, split) for split, samples in splits.items()}
    names: list[str] = [splits[split].name(index) for split, indices in bad.items() for index in indices]
    if not names:
        return data
    if broken == "stop":
        raise VptError(f"{len(names)} images cannot be decoded: {first_of(names)}; mend them, or say data.broken=skip.")
    good = {split: sorted(set(range(len(splits[split]))) - set(indices)) for split, indices in bad.items()}
    for split, indices in good.items():
        if not indices:
            raise VptError(f"no image of {data.name}'s {split} split can be decoded, first {names[0]}.")
    kept = data.keep(good)
    if isinstance(data, DataSet) and isinstance(kept, DataSet):
        lost = set(data.train.labels) - set(kept.train.labels)
        if lost:
            raise VptError(f"no training image of class {data.classes[min(lost)]!r} can be decoded: mend some.")
    tell(f"{len(names)} broken images skipped, first {names[0]}.")
    return replace(kept, skipped=(*data.skipped, *dict.fromkeys(names)))


def _undecodable(samples: Samples | Pairs, split: str) -> Sequence[int]:
    """Indices of files that cannot be decoded, in order; images in memory need no check."""
    files = [index for index in range(len(samples)) if samples.stored(index)]
    if not files:
        return []

    def fails(index: int) -> bool:
        try:
            samples.image(index)
        except VptError:
            return True
        return False

    # PIL lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(fails, files, chunksize=16)
        bar = Progress().bar(results, f"checking {split} images", total=len(files))
        return [index for index, failed in zip(files, bar, strict=True) if failed]
