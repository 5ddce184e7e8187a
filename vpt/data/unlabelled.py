"""Images without labels, which a method that looks at none learns from beside the training images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vpt.data.base import NO_LABEL, DataSet, Files, Samples
from vpt.data.check import readable
from vpt.data.joined import JoinedSamples
from vpt.data.members import Changed, Members, places_of, told_new
from vpt.errors import VptError
from vpt.images import find_files, tell_others
from vpt.paths import resolve
from vpt.report.notes import tell


def with_unlabelled(
    data: DataSet, path: str | Path, whole: DataSet, *, broken: Literal["stop", "skip"], check: bool
) -> DataSet:
    """`data` with the images below a folder that none of its splits has.

    So that of one folder a few images may have labels that count, and all others be learned from without.

    Args:
        data: with its splits.
        path: the folder, as it stands or below VPT_DATA; folders in it mean nothing.
        whole: `data` before classes and images were left out of it; what it is tested on is learned from by nobody, as
            the model may be tested on these classes too.
        broken: stop at images that cannot be decoded, or skip and count them.
        check: decode every image file.

    Raises:
        VptError: there is no such folder, or no image in it that is in no split and can be decoded.
    """
    root, found = _images(path)
    free = _apart(found, data.splits())
    others = _tested_apart(free, whole)
    if not others:
        raise VptError(f"data.unlabelled={root} has no image that {data.name} has not with its label: leave it out.")
    if len(free) < len(found):
        tell(f"{len(found) - len(free)} of {len(found)} images of {root} are in the splits of {data.name} already.")
    if len(others) < len(free):
        tell(f"{len(free) - len(others)} test images of {data.name}'s other classes, in {root}, are not learned from.")
    samples, skipped = _files(others, broken, check)
    if not len(samples):
        raise VptError(f"none of the {len(others)} images of data.unlabelled={root} can be decoded, first {others[0]}.")
    return replace(data, unlabelled=samples, skipped=(*data.skipped, *skipped))


def restored_unlabelled(
    data: DataSet,
    path: str | Path,
    whole: DataSet,
    kept: Members,
    new: Changed,
    *,
    broken: Literal["stop", "skip"],
    check: bool,
) -> DataSet:
    """`data`, in the splits of a run, with the images without labels that the run had.

    Args:
        data: in the run's splits.
        path: the folder.
        whole: the data set as it is now; which of its images are new is known already.
        kept: the images of the run.
        new: stop at other images that the run did not have, or leave them out.
        broken: as in `with_unlabelled`.
        check: likewise.

    Raises:
        VptError: some are missing, or `new` is "stop" and there are others.
    """
    root, found = _images(path)
    # Names are kept below the folder that all have in common, where labelled images may have the same ones.
    free = _tested_apart(_apart(found, data.splits()), whole)
    places = places_of([str(image) for image in free], kept.unlabelled, str(root), own=1)
    used = set(places.values())
    # Those that the run has skipped as broken are broken still.
    unused = _apart([image for i, image in enumerate(free) if i not in used], whole.splits())
    others, before = _files(unused, broken, check)
    told_new(str(root), len(others), [others.name(i) for i in range(len(others))], new)
    samples, skipped = _files([free[places[name]] for name in kept.unlabelled], broken, check)
    return replace(data, unlabelled=samples, skipped=(*data.skipped, *before, *skipped))


def learned_from(data: DataSet) -> Samples:
    """What is trained on: the training images and, behind them, those without labels."""
    if data.unlabelled is None:
        return data.train
    parts = [part for part in (data.train, data.unlabelled) if len(part)]
    return JoinedSamples(parts).named(data.classes)


def _images(path: str | Path) -> tuple[Path, list[Path]]:
    root = resolve(path)
    if not root.is_dir():
        raise VptError(f"data.unlabelled={root} is a file: give a folder of images.")
    found = find_files([root])
    tell_others(found.others, root)
    return root, found.images


def _tested_apart(images: Sequence[Path], whole: DataSet) -> list[Path]:
    """Those that `whole` is not tested on."""
    return _apart(images, {} if whole.test is None else {"test": whole.test})


def _apart(images: Sequence[Path], splits: Mapping[str, Samples]) -> list[Path]:
    """Those that are in none of `splits`, by whichever way they lie there."""
    files = [samples.file(index) for samples in splits.values() for index in range(len(samples))]
    known = {os.path.realpath(file) for file in files if file is not None}
    return [image for image in images if os.path.realpath(image) not in known]


def _files(images: list[Path], broken: Literal["stop", "skip"], check: bool) -> tuple[Samples, list[str]]:
    """The images, and the names of those that are skipped."""
    samples = Files(images, [NO_LABEL] * len(images))
    return readable(samples, broken, "unlabelled") if check else (samples, [])
