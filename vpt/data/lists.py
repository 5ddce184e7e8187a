"""Text lists of "path label" lines, as VTAB-1k's image trees and Caffe's lists have them."""

from __future__ import annotations

from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.errors import VptError
from vpt.paths import resolve

NAMES = ("lists",)


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
        classes: name of a file with one class name a line; without it classes are called by number.

    Raises:
        VptError: a list or an image is missing, or a line is not "path label".
    """
    root = resolve(path)
    files = {"train": train} | {split: file for split, file in (("val", val), ("test", test)) if file}
    lists = {split: _read(root, file) for split, file in files.items()}
    highest = max(label for samples in lists.values() for label in samples.labels)
    names = [str(label) for label in range(highest + 1)]
    if classes:
        names = [line for _, line in _lines(resolve(root / classes))]
    if len(names) <= highest:
        raise VptError(f"{root / str(classes)} names {len(names)} classes, but a list has the label {highest}.")
    return DataSet(str(root), tuple(names), lists["train"], lists.get("val"), lists.get("test"))


def _read(root: Path, file: str) -> Files:
    source = root / file
    if not source.is_file():
        there = ", ".join(sorted(path.name for path in root.glob("*.txt"))) or "no .txt file"
        raise VptError(f"there is no list {source}: {root} holds {there}; set data.train, data.val and data.test.")
    paths: list[Path] = []
    labels: list[int] = []
    for number, line in _lines(source):
        *path, label = line.rsplit(maxsplit=1)
        if not path or not label.isdecimal():
            raise VptError(f"{source}, line {number} is not 'path label' with a whole number: {line!r}.")
        paths.append(root / path[0])
        labels.append(int(label))
    if not paths:
        raise VptError(f"{source} is empty: it needs a line for each image.")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise VptError(f"{len(missing)} of {len(paths)} images of {source} are missing, first {missing[0]}.")
    return Files(paths, labels)


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbers and text of the lines that hold something."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VptError(f"{file} is no text in UTF-8: save it as such.") from error
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
