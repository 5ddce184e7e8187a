"""What a published data set consists of on disk, and what to say when some of it is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vpt.data.texts import read_text
from vpt.errors import VptError
from vpt.paths import data_root, resolve


def home(folder: str, path: Path | None) -> Path:
    """The root of a data set: `path` where it is given, otherwise `folder` below VPT_DATA."""
    return resolve(path) if path else data_root() / folder


def require(name: str, pieces: Mapping[Path, str]) -> None:
    """Check that each of `pieces`, a place and what belongs there, exists.

    Raises:
        VptError: the first that does not, with what to get and where to put it.
    """
    for place, what in pieces.items():
        if not place.exists():
            raise VptError(f"{name} is not complete: put {what} at {place}, or set VPT_DATA (see data/README.md).")


def require_images(name: str, paths: Sequence[Path]) -> None:
    """Check that every image is there.

    Raises:
        VptError: how many are not, and the first.
    """
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise VptError(f"{len(missing)} images of {name} are missing, first {missing[0]}: unpack its archive again.")


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that hold something, without spaces around them.

    Raises:
        VptError: it is no text in UTF-8, or is not there.
    """
    return [line.strip() for line in read_text(file).split("\n") if line.strip()]
