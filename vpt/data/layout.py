"""How folders lie in each other: which are splits by their names, and which only repeat what they lie in."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vpt.errors import VptError
from vpt.images import IMAGE_SUFFIXES, find_files, is_hidden
from vpt.report.notes import first_of, tell

WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# What people call splits, in lower case.
SPLITS = {
    f"{word}{end}": split for word, split in WORDS.items() for end in ("", "set", "_set", "-set", " set", "_data")
}
# Folders that are called so may be splits, where they hold the same folders too: "seg_train", "fold 1", "carsTest".
LIKE_SPLITS = re.compile(
    rf"(?<![a-z])({'|'.join(WORDS)}|dev|eval|evaluation|hold_?out|fold|split|subset|partition)(set|data|images)?(?![a-z])"
)


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


def tell_beside(folder: Path) -> None:
    """Say which files lie beside the folders of classes or splits, where they have no class."""
    beside = sorted(entry for entry in folder.iterdir() if not os.path.isdir(entry) and not is_hidden(entry))
    if beside:
        names = first_of([path.name for path in beside], 3)
        tell(f"{len(beside)} files beside the folders in {folder} are not read, as they have no class: {names}.")


def entered(folder: Path) -> Path:
    """`folder`, or the only one in it where that repeats it, as archives are unpacked; which is told."""
    inner = _inner(folder)
    if inner != folder:
        tell(f"{folder} holds no other folder than {inner.name}: what is in that is read in its place.")
        tell_beside(folder)
    return inner


def check_no_splits(folders: Sequence[Path], remedy: str) -> None:
    """Nothing, if folders that are taken for classes are not splits that are called in a way of their own.

    Args:
        folders: that are taken for classes.
        remedy: what to do about it.

    Raises:
        VptError: nearly all hold nearly the same folders of images, and some are called as splits are.
    """
    if not any(_may_be_split(folder.name) for folder in folders):
        return
    within = {folder: _with_images(_inner(folder)) for folder in folders}
    most = max(within.values(), key=len)
    alike = [folder for folder, names in within.items() if len(names) > 1 and len(names & most) >= 0.8 * len(names)]
    called = [folder.name for folder in alike if _may_be_split(folder.name)]
    if len(alike) > 1 and 2 * len(alike) > len(folders) and called:
        raise VptError(
            f"{first_of([folder.name for folder in alike])} in {folders[0].parent} hold folders of images of the same "
            f"names, {first_of(sorted(most), 3)}, so that they look like splits and not like classes: {remedy}, or "
            f"rename {called[0]} if it is a class."
        )


def tell_splits_within(folders: Sequence[Path]) -> None:
    """Say that classes hold folders which are called as splits are, as their images are read as one."""
    within = [_splits_in(folder) for folder in folders]
    parted = [folder.name for folder, splits in zip(folders, within, strict=True) if len(splits) > 1]
    if 2 * len(parted) > len(folders):
        tell(
            f"{len(parted)} classes in {folders[0].parent} hold splits, first {parted[0]}, which are read as one: put "
            "the folders of the classes into those of the splits to keep these apart."
        )


def _splits_in(folder: Path) -> set[str]:
    # Of all the files that a class may have, those alone are looked at that are called so.
    names = [name.lower() for name in os.listdir(folder) if name.lower() in SPLITS and os.path.isdir(folder / name)]
    return {SPLITS[name] for name in names}


def _may_be_split(name: str) -> bool:
    return LIKE_SPLITS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


def _inner(folder: Path) -> Path:
    """The only folder in `folder`, if it holds folders and has the same name, or one as splits have; or `folder`."""
    folders = folders_in(folder)
    if len(folders) != 1 or not folders_in(folders[0]):
        return folder
    name = folders[0].name.lower()
    if name != Path(os.path.abspath(folder)).name.lower() and (name in SPLITS or not _may_be_split(folders[0].name)):
        return folder
    return folder if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir()) else folders[0]


def _with_images(folder: Path) -> set[str]:
    return {inner.name for inner in folders_in(folder) if find_files([inner]).images}
