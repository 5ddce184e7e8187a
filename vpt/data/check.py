"""Every file decoded once before training, so that a broken one is known at once, and what splits lack."""

from __future__ import annotations

import unicodedata
from collections import Counter
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
        raise _broken(names, next(_reason(splits[split], indices[0]) for split, indices in bad.items() if indices))
    good = {split: sorted(set(range(len(splits[split]))) - set(indices)) for split, indices in bad.items()}
    for split, indices in good.items():
        if not indices:
            raise VptError(f"no image of {data.name}'s {split} split can be decoded, first {names[0]}.")
    kept = data.keep(good)
    if isinstance(data, DataSet) and isinstance(kept, DataSet):
        lost = set(data.train.labels) - set(kept.train.labels)
        if lost:
            raise VptError(f"no training image of class {data.classes[min(lost)]!r} can be decoded: mend some.")
    tell(f"{len(names)} broken images skipped: {first_of(names)}.")
    return replace(kept, skipped=(*data.skipped, *dict.fromkeys(names)))


def readable(samples: Samples, broken: Literal["stop", "skip"], what: str) -> tuple[Samples, list[str]]:
    """`samples` without the files that cannot be decoded, and the names of these.

    Raises:
        VptError: there are such files and `broken` is "stop".
    """
    bad = set(_undecodable(samples, what))
    names = [samples.name(index) for index in sorted(bad)]
    if not names:
        return samples, names
    if broken == "stop":
        raise _broken(names, _reason(samples, min(bad)))
    tell(f"{len(names)} broken images skipped: {first_of(names)}.")
    return samples.subset([index for index in range(len(samples)) if index not in bad]), names


def tell_alike(classes: Sequence[str], name: str) -> None:
    """Say which classes differ in case, spaces or the form of their letters alone, as slips of the pen do."""
    met: dict[str, str] = {}
    for each in classes:
        first = met.setdefault(" ".join(unicodedata.normalize("NFKC", each).replace("_", " ").casefold().split()), each)
        if first != each:
            tell(f"the classes {first!r} and {each!r} of {name} are almost alike: give them one name if they are one.")


def tell_lacking(data: DataSet) -> None:
    """Say which classes have no images in a split that others have some in."""
    for split, samples in data.splits().items():
        there = set(samples.labels)
        lacking = [name for label, name in enumerate(data.classes) if label not in there]
        if lacking:
            kind = {"train": "training", "val": "validation", "test": "test"}[split]
            count = f"{len(lacking)} of {len(data.classes)} classes of {data.name}"
            tell(f"{count} have no {kind} images: {first_of(lacking)}.")


def tell_few(data: DataSet, shots: int) -> None:
    """Say which classes have fewer training images than there are to be shots, and give all that they have."""
    counts = Counter(data.train.labels)
    few = [name for label, name in enumerate(data.classes) if counts[label] < shots]
    if few:
        count = f"{len(few)} of {len(data.classes)} classes of {data.name}"
        tell(f"{count} have fewer than {shots} training images, and give all that they have: {first_of(few)}.")


def _undecodable(samples: Samples | Pairs, split: str) -> Sequence[int]:
    """Indices of files that cannot be decoded, in order; images in memory need no check."""
    files = [index for index in range(len(samples)) if samples.stored(index)]
    if not files:
        return []
    # PIL lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(lambda index: bool(_reason(samples, index)), files, chunksize=16)
        bar = Progress().bar(results, f"checking {split} images", total=len(files))
        return [index for index, failed in zip(files, bar, strict=True) if failed]


def _broken(names: Sequence[str], first: str) -> VptError:
    return VptError(
        f"{len(names)} images cannot be decoded: {first_of(names)}; mend them, or say data.broken=skip. Of the first: "
        f"{first}"
    )


def _reason(samples: Samples | Pairs, index: int) -> str:
    """Why an image cannot be decoded; empty where it can."""
    try:
        samples.image(index)
    except VptError as error:
        return str(error)
    return ""
