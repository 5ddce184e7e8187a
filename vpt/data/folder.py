"""Folders of images: root/class/image, or root/{train,val,test}/class/image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.errors import VptError, did_you_mean
from vpt.images import find_files, is_hidden, tell_others
from vpt.paths import resolve
from vpt.report.notes import first_of, tell

NAMES = ("folder",)

# What people call splits, in lower case.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def load(name: str, *, path: Path) -> DataSet:
    """Classes are the folders' names, in order; images may lie in folders below a class, and folders may be links.

    What is there and is not read is counted and named on standard error.

    Args:
        name: "folder".
        path: the root, as it stands or below VPT_DATA.

    Raises:
        VptError: there are no classes, a class has no images, or splits differ in their classes.
    """
    root = resolve(path)
    if not root.is_dir():
        raise VptError(f"{root} is a file, and data.name=folder needs a folder: for a list of images say table.")
    splits = _splits(root)
    train = splits.get("train", root)
    classes = [folder.name for folder in folders_in(train)]
    if not classes:
        raise VptError(f"{train} holds no folders of images: there must be one for each of 2 or more classes.")
    samples = {split: read_classes(folder, classes) for split, folder in (splits or {"train": root}).items()}
    empty = [classes[label] for label in range(len(classes)) if label not in set(samples["train"].labels)]
    if empty:
        raise VptError(f"{train / empty[0]} holds no images ({len(empty)} such classes): add some or remove it.")
    return DataSet(str(root), tuple(classes), samples["train"], samples.get("val"), samples.get("test"))


def folders_in(root: Path) -> list[Path]:
    """The folders in `root`, in order of name, without hidden ones.

    Raises:
        VptError: it cannot be read, or a name is in no UTF-8.
    """
    try:
        folders = sorted(entry for entry in root.iterdir() if os.path.isdir(entry) and not is_hidden(entry))
    except OSError as error:
        raise VptError(f"the folder {root} cannot be read ({error.strerror}): correct its rights.") from error
    for folder in folders:
        if any("\ud800" <= sign <= "\udfff" for sign in folder.name):
            raise VptError(f"the name of the folder {folder} is no UTF-8: rename it, as it may be that of a class.")
    return folders


def read_classes(folder: Path, classes: Sequence[str]) -> Files:
    """The images below folder/class, labelled by the place of their class in `classes`; others are counted and named.

    Raises:
        VptError: a folder that is none of `classes`.
    """
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    places = {name: label for label, name in enumerate(classes)}
    for entry in folders_in(folder):
        if entry.name not in places:
            raise VptError(f"{entry} is a class that the training images lack: {did_you_mean(entry.name, classes)}")
        found = find_files([entry])
        paths += found.images
        labels += [places[entry.name]] * len(found.images)
        others += found.others
    tell_others(others, folder)
    _tell_beside(folder)
    return Files(paths, labels)


def _splits(root: Path) -> dict[str, Path]:
    """The folders of `root` that are splits, each of which holds folders of classes; none where all are classes.

    Raises:
        VptError: two are the same split, "train" is missing, or what is a split and what a class cannot be told.
    """
    folders = folders_in(root)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = SPLITS.get(folder.name.lower())
        if split in splits:
            raise VptError(f"{splits[split]} and {folder} are both the {split} split: remove or rename one.")
        if split:
            splits[split] = folder
    others = [folder for folder in folders if folder not in splits.values()]
    flat = [folder for folder in splits.values() if not folders_in(folder)]
    if len(splits) == len(flat) == 1 and others:
        tell(f"{flat[0]} holds images and no folders of classes: it is taken for a class, and not for a split.")
        return {}
    if flat:
        raise VptError(
            f"{flat[0]} is called as a split is, and holds no folders of images: there must be one for each of 2 or "
            "more classes."
        )
    if splits and "train" not in splits:
        raise VptError(f"{root} has {' and '.join(sorted(splits))} but no folder 'train': add it.")
    beside = [folder for folder in others if splits and find_files([folder]).images]
    if beside and len(splits) == 1:
        raise VptError(
            f"{splits['train']} is called as a split is, and beside it are folders of images that are none, "
            f"{first_of([folder.name for folder in beside])}: move these into it or away, or rename a class called so."
        )
    if beside:
        tell(f"folders beside the splits of {root} are not read: {first_of([folder.name for folder in beside])}.")
    if splits:
        _tell_beside(root)
    return splits


def _tell_beside(folder: Path) -> None:
    """Say which files lie beside the folders of classes or splits, where they have no class."""
    beside = sorted(entry for entry in folder.iterdir() if not os.path.isdir(entry) and not is_hidden(entry))
    if beside:
        names = first_of([path.name for path in beside], 3)
        tell(f"{len(beside)} files beside the folders in {folder} are not read, as they have no class: {names}.")
