"""Folders of images: root/class/image, or root/{train,val,test}/class/image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.layout import SPLITS, check_no_splits, entered, folders_in, tell_beside, tell_splits_within
from vpt.errors import VptError, did_you_mean
from vpt.images import find_files, tell_others
from vpt.paths import resolve
from vpt.report.notes import first_of, tell

NAMES = ("folder",)


def load(name: str, *, path: Path) -> DataSet:
    """Classes are the folders' names, in order; images may lie in folders below a class, and folders may be links.

    What is there and is not read is counted and named on standard error. A folder that holds nothing but one of its
    own name, as archives are unpacked, is that one.

    Args:
        name: "folder".
        path: the root, as it stands or below VPT_DATA.

    Raises:
        VptError: there are no classes, a class has no images, splits differ in their classes, or folders that are
            taken for classes look like splits.
    """
    root = resolve(path)
    if not root.is_dir():
        raise VptError(f"{root} is a file, and data.name=folder needs a folder: for a list of images say table.")
    top = entered(root)
    splits = _splits(top) or {"train": top}
    train = splits["train"]
    folders = folders_in(train)
    classes = [folder.name for folder in folders]
    if not classes:
        raise VptError(f"{train} holds no folders of images: there must be one for each of 2 or more classes.")
    check_no_splits(folders, "rename them to train and test, or let data.path lead into one of them")
    tell_splits_within(folders)
    samples = {split: read_classes(folder, classes) for split, folder in splits.items()}
    empty = [classes[label] for label in range(len(classes)) if label not in set(samples["train"].labels)]
    if empty:
        raise VptError(f"{train / empty[0]} holds no images ({len(empty)} such classes): add some or remove it.")
    return DataSet(str(root), tuple(classes), samples["train"], samples.get("val"), samples.get("test"))


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
    tell_beside(folder)
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
    splits = {split: entered(folder) for split, folder in splits.items()}
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
        tell_beside(root)
    return splits
