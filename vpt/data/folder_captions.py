"""Folders of images, root/class/image or with splits, whose classes' names become captions."""

from __future__ import annotations

from pathlib import Path

from vpt.data import folder
from vpt.data.pairs import PairSet, class_captions

NAMES = ("folder_captions",)


def load(name: str, *, path: Path, templates: tuple[str, ...] = ("a photo of a {}.",)) -> PairSet:
    """As `data.name=folder` reads them, each split with the captions that templates make of the class's name.

    Args:
        name: "folder_captions".
        path: the root, as it stands or below VPT_DATA.
        templates: sentences with one {} each; every image gets all of them as its captions.

    Raises:
        VptError: a template without one {}, or what "folder" raises.
    """
    data = folder.load("folder", path=path)
    captions = {split: class_captions(samples, data.classes, templates) for split, samples in data.splits().items()}
    return PairSet(data.name, captions["train"], captions.get("val"), captions.get("test"))
