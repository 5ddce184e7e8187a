"""Folders of images: root/class/image, or root/{train,val,test}/class/image."""

from __future__ import annotations

from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.errors import VptError, did_you_mean
from vpt.images import find_images
from vpt.paths import resolve

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
    """Classes are the folders' names, in order; images may lie in folders below a class.

    Args:
        name: "folder".
        path: the root, as it stands or below VPT_DATA.

    Raises:
        VptError: there are no classes, a class has no images, or splits differ in their classes.
    """
    root = resolve(path)
    if not root.is_dir():
        raise VptError(f"{root} is a file, and data.name=folder needs a folder: for a list of images say table.")
    splits: dict[str, Path] = {}
    for folder in folders_in(root):
        split = SPLITS.get(folder.name.lower())
        if split in splits:
            raise VptError(f"{splits[split]} and {folder} are both the {split} split: remove or rename one.")
        if split:
            splits[split] = folder
    if splits and "train" not in splits:
        raise VptError(f"{root} has {' and '.join(sorted(splits))} but no folder 'train': add it.")
    train = splits.get("train", root)
    classes = [folder.name for folder in folders_in(train)]
    if len(classes) < 2:
        raise VptError(
            f"{train} holds {len(classes)} folders of images: there must be one for each of 2 or more classes."
        )
    samples = {split: read_classes(folder, classes) for split, folder in (splits or {"train": root}).items()}
    empty = [classes[label] for label in range(len(classes)) if label not in set(samples["train"].labels)]
    if empty:
        raise VptError(f"{train / empty[0]} holds no images ({len(empty)} such classes): add some or remove it.")
    return DataSet(str(root), tuple(classes), samples["train"], samples.get("val"), samples.get("test"))


def folders_in(root: Path) -> list[Path]:
    """The folders in `root`, in order of name, without hidden ones."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_classes(folder: Path, classes: list[str]) -> Files:
    """The images below folder/class, labelled by the place of their class in `classes`.

    Raises:
        VptError: a folder that is none of `classes`.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for entry in folders_in(folder):
        if entry.name not in classes:
            raise VptError(f"{entry} is a class that the training images lack: {did_you_mean(entry.name, classes)}")
        found = find_images(entry)
        paths += found
        labels += [classes.index(entry.name)] * len(found)
    return Files(paths, labels)
