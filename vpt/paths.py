"""Where a user's data lie, and what can be made again from them."""

from __future__ import annotations

import os
from pathlib import Path

from vpt.errors import VptError


def data_root() -> Path:
    """The folder of data sets: the environment variable VPT_DATA, or `data/` where it is not set."""
    return Path(os.environ.get("VPT_DATA", "data")).expanduser()


def cache_root() -> Path:
    """The folder of caches: the environment variable VPT_CACHE, or vpt/ in the user's folder for caches."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("VPT_CACHE") or f"{user}/vpt").expanduser()


def model_folder(source: str | Path) -> Path | str:
    """Where the model of a run lies; of a saved model, or a repository of the hub, `source` as it is."""
    best = Path(source) / "best"
    return best if best.is_dir() else source


def resolve(path: str | Path) -> Path:
    """`path` as it stands where something is there, otherwise below `data_root()`.

    Raises:
        VptError: neither place holds it.
    """
    if not str(path).strip():
        raise VptError("a path is empty: name a file or a folder.")
    try:
        given = Path(path).expanduser()
    except RuntimeError as error:
        raise VptError(f"{str(path)!r} begins with ~ and there is no such user: correct the path.") from error
    for candidate in (given, data_root() / given):
        # Of a name that is too long or holds a zero byte, pathlib's own raises an error.
        if os.path.exists(candidate):
            return candidate
    tried = f"{given}" if given.is_absolute() else f"{given.absolute()} nor {(data_root() / given).absolute()}"
    raise VptError(f"{str(path)!r} does not exist: there is no {tried}; correct the path or set VPT_DATA.")
