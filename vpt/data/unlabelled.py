"""Images without labels, which a method that looks at none learns from beside the training images."""

from __future__ import annotations

import os
from collections.abc import Sequence
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


def with_unlabelled(data: DataSet, path: str | Path, *, broken: Literal["stop", "skip"], check: bool) -> DataSet:
    """`data` with the images below a folder that none of its splits has.

    So that of one folder a few images may have labels that count, and all others be learned from without.

    Args:
        data: with its splits.
        path: the folder, as it stands or below VPT_DATA; folders in it mean nothing.
        broken: stop at images that cannot be decoded, or skip and count them.
        check: decode every image file.

    Raises:
        VptError: there is no such folder, or no image in it that is in no split and can be decoded.
    """
    root, found = _images(path)
    others = _apart(found, data)
    if not others:
        raise VptError(f"data.unlabelled={root} has no image that {data.name} has not with its label: leave it out.")
    if len(others) < len(found):
        tell(f"{len(found) - len(others)} of {len(found)} images of {root} are in the splits of {data.name} already.")
    samples, skipped = _files(others, broken, check)
    if not len(samples):
        raise VptError(f"none of the {len(others)} images of data.unlabelled={root} can be decoded, first {others[0]}.")
    return replace(data, unlabelled=samples, skipped=(*data.skipped, *skipped))


def restored_unlabelled(
    data: DataSet, path: str | Path, kept: Members, new: Changed, *, broken: Literal["stop", "skip"], check: bool
) -> DataSet:
    """`data`, in the splits of a run, with the images without labels that the run had.

    Raises:
        VptError: some are missing, or `new` is "stop" and there are others.
    """
    root, found = _images(path)
    places = places_of([str(image) for image in found], kept.unlabelled, str(root), own=1)
    used = set(places.values())
    # Those that the run has skipped as broken are broken still.
    others, before = _files(_apart([image for i, image in enumerate(found) if i not in used], data), broken, check)
    told_new(str(root), len(others), [others.name(i) for i in range(len(others))], new)
    samples, skipped = _files([found[places[name]] for name in kept.unlabelled], broken, check)
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


def _apart(images: Sequence[Path], data: DataSet) -> list[Path]:
    """Those that are in no split of `data`, by whichever way they lie there."""
    files = [samples.file(index) for samples in data.splits().values() for index in range(len(samples))]
    known = {os.path.realpath(file) for file in files if file is not None}
    return [image for image in images if os.path.realpath(image) not in known]


def _files(images: list[Path], broken: Literal["stop", "skip"], check: bool) -> tuple[Samples, list[str]]:
    """The images, and the names of those that are skipped."""
    samples = Files(images, [NO_LABEL] * len(images))
    return readable(samples, broken, "unlabelled") if check else (samples, [])
