"""Rows that name an image, its label and its split: each image once, in one split, with one label."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from vpt.errors import VptError
from vpt.report.notes import first_of, tell

Label = TypeVar("Label", bound=Hashable)


class Labelled(NamedTuple, Generic[Label]):
    """An image with its label; `place` says where it was read, e.g. "t.csv, line 7"."""

    split: str
    image: Path
    label: Label
    place: str


def each_once(rows: Sequence[Labelled[Label]]) -> list[Labelled[Label]]:
    """`rows` without those that repeat another, which are counted and named on standard error.

    Two names of one file, such as "1.jpg" and "./1.jpg", are one image.

    Raises:
        VptError: an image has two labels or is in two splits.
    """
    met: dict[str, Labelled[Label]] = {}
    repeated: list[str] = []
    kept: list[Labelled[Label]] = []
    for row in rows:
        file = os.path.realpath(row.image)
        first = met.setdefault(file, row)
        if first is row:
            kept.append(row)
            continue
        if first.label != row.label:
            both = f"the labels {first.label!r}, at {first.place}, and {row.label!r}, at {row.place}"
            raise VptError(f"{row.image} has {both}: keep one, as an image has one class here.")
        if first.split != row.split:
            both = f"{first.split}, at {first.place}, and again in {row.split}, at {row.place}"
            raise VptError(f"{row.image} is in {both}: keep it in one split.")
        repeated.append(row.place)
    if repeated:
        tell(f"{len(repeated)} rows that repeat an image are left out, at {first_of(repeated)}.")
    return kept


def placed(base: Path, name: str) -> Path:
    r"""The image that a row names, below `base`; a table from Windows may write "dogs\1.jpg"."""
    path = base / name
    if "\\" in name and not os.path.isfile(path):
        other = base / name.replace("\\", "/")
        return other if os.path.isfile(other) else path
    return path


def check_there(rows: Sequence[Labelled[Label]], remedy: str) -> None:
    """Nothing, if every image is there.

    Raises:
        VptError: how many are not, the first of them, and its place.
    """
    # Of a name that is too long pathlib's own raises an error.
    missing = [row for row in rows if not os.path.isfile(row.image)]
    if missing:
        first = missing[0]
        raise VptError(
            f"{len(missing)} of {len(rows)} images are missing, first {first.image} ({first.place}): {remedy}."
        )
