"""Files that are there whole or as they were before, also after a power cut; and one sentence where they cannot be."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vpt.errors import VptError

TEMPORARY = ".tmp"

REMEDIES = {
    errno.ENOSPC: "make room on the disk; what was saved before is as it was",
    errno.EDQUOT: "make room in your quota; what was saved before is as it was",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: "name a place that you may write to",
    errno.EPERM: "name a place that you may write to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "name a place below a folder",
    errno.EEXIST: "name a place below a folder",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file to, which afterwards takes the place of `path`.

    It is flushed to the disk before it is renamed: otherwise the file may be empty after a power cut.

    Raises:
        VptError: it cannot be written; `path` is then as it was.
    """
    new = temporary(path)
    with told(path):
        try:
            yield new
            flush(new)
            os.replace(new, path)
        except Exception:
            new.unlink(missing_ok=True)
            raise
        flush(path.parent)


def temporary(path: Path) -> Path:
    """Where `replacing` has a file written to."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def write(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, that is there whole or as it was before; its folder is made.

    Raises:
        VptError: it cannot be written.
    """
    make_folder(path.parent)
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        VptError: it cannot be made.
    """
    with told(path):
        path.mkdir(parents=True, exist_ok=True)


def flush(path: Path) -> None:
    """Have the system write to the disk what it still holds of a file, or which files a folder has."""
    if os.name == "nt" and path.is_dir():
        # Windows knows no such thing for folders.
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system says of a place that is written to, as one sentence.

    Raises:
        VptError: in place of OSError, and of safetensors' error where it stands for one.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno or 0 if isinstance(error, OSError) else _number(str(error))
        if number is None:
            raise
        # A folder is to be made where a file is.
        own = (error.strerror or str(error)) if isinstance(error, OSError) else os.strerror(number)
        reason = "it is a file" if number == errno.EEXIST else own.lower()
        remedy = REMEDIES.get(number, "name another place")
        raise VptError(f"{path} cannot be written ({reason}): {remedy}.") from error


def _number(text: str) -> int | None:
    """The number of the system's error that safetensors tells as text."""
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what `replacing` left where a process died."""
    return name.startswith(".") and name.endswith(TEMPORARY)


def check_place(path: Path) -> None:
    """Nothing, if something can be written at `path`, as far as it can be known; nothing is left there.

    Raises:
        VptError: it cannot.
    """
    with told(path):
        nearest = path
        while not nearest.exists():
            nearest = nearest.parent
        if nearest != path and not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is a file")
        with tempfile.TemporaryFile(dir=nearest if nearest.is_dir() else nearest.parent):
            pass
