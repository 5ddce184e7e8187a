"""Text lists of "path label" lines, as VTAB-1k's image trees and Caffe's lists have them."""

from __future__ import annotations

from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.rows import Labelled, check_there, each_once, placed
from vpt.data.texts import read_text
from vpt.errors import VptError
from vpt.paths import resolve

NAMES = ("lists",)

# More than any data set has; a list of their names is held in memory.
MOST_CLASSES = 1_000_000
# What the first line of a list of names is called by, where it is none.
HEADERS = frozenset(
    {"class", "classes", "class_name", "class_names", "classname", "name", "names", "label", "labels", "category"}
)


def load(
    name: str,
    *,
    path: Path,
    train: str = "train800.txt",
    val: str | None = "val200.txt",
    test: str | None = "test.txt",
    classes: str | None = None,
) -> DataSet:
    """A folder with one list for each split; paths in a list are relative to the folder.

    Args:
        name: "lists".
        path: the folder, as it stands or below VPT_DATA.
        train: name of the training list; the default is that of VTAB-1k's trees.
        val: name of the validation list, or null.
        test: name of the test list, or null.
        classes: name of a file with the name of label 0 on its first line, and so on, one for each label; without it
            classes are called by number.

    Raises:
        VptError: a list or an image is missing, a line is not "path label" or no name, or an image has two labels or
            is in two splits.
    """
    root = resolve(path)
    files = {"train": train} | {split: file for split, file in (("val", val), ("test", test)) if file}
    rows = [row for split, file in files.items() for row in _read(root, file, split)]
    rows = each_once(rows)
    last = max(rows, key=lambda row: row.label)
    highest = last.label
    if highest >= MOST_CLASSES:
        raise VptError(f"{last.place} has the label {highest}, and labels count classes from 0: number them anew.")
    names = _names(resolve(root / classes), highest) if classes else [str(label) for label in range(highest + 1)]
    splits = {
        split: Files([r.image for r in rows if r.split == split], [r.label for r in rows if r.split == split])
        for split in files
    }
    return DataSet(str(root), tuple(names), splits["train"], splits.get("val"), splits.get("test"))


def _read(root: Path, file: str, split: str) -> list[Labelled[int]]:
    source = root / file
    if not source.is_file():
        there = ", ".join(sorted(path.name for path in root.glob("*.txt"))) or "no .txt file"
        raise VptError(f"there is no list {source}: {root} holds {there}; set data.train, data.val and data.test.")
    rows: list[Labelled[int]] = []
    for number, line in _lines(source):
        if not line:
            continue
        *path, label = line.rsplit(maxsplit=1)
        if not path or not label.isdecimal():
            raise VptError(f"{source}, line {number} is not 'path label' with a whole number: {line!r}.")
        rows.append(Labelled(split, placed(root, path[0]), int(label), f"{source}, line {number}"))
    if not rows:
        raise VptError(f"{source} is empty: it needs a line for each image.")
    check_there(rows, "put them there, or correct the list")
    return rows


def _names(file: Path, highest: int) -> list[str]:
    """A name for each label from 0 to `highest`, one a line, and nothing else.

    Raises:
        VptError: a line that is no name, which would give the labels after it the names of others.
    """
    lines = _lines(file)
    while lines and not lines[-1][1]:
        lines.pop()
    for number, line in lines:
        told = "empty" if not line else "a comment" if line.startswith("#") else ""
        if number == 1 and line.lower().replace(" ", "_") in HEADERS:
            told = "a header"
        if told:
            raise VptError(
                f"{file}, line {number} is {told}, and line n is the name of label n-1: remove it, or write a name."
            )
    if len(lines) != highest + 1:
        raise VptError(
            f"{file} names {len(lines)} classes, and the lists have labels from 0 to {highest}: give one name a line "
            "for each label, and no header."
        )
    return [line for _, line in lines]


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbers and text of the lines."""
    return [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1)]
