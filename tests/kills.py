"""Processes that die at a chosen file operation, and what they leave."""

import hashlib
import itertools
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
DONE, FAILED, DEAD = 0, 1, 9

Work = Callable[[Path], Any]


def died(work: Work, folder: Path, *, at: int = 0) -> bool:
    """Whether a process that does `work(folder)` comes to the file operation `at` (1, 2, …) below it, where it dies.

    It ends there as by a power cut, without cleaning up. With `at` 0 nothing ends it.
    """
    return _forked(work, folder, lambda count: os._exit(DEAD) if count == at else None)


def states(work: Work, folder: Path, into: Path) -> tuple[int, list[tuple[int, Path]]]:
    """How many file operations `work(folder)`, which is done, has; and the folder as they find it.

    What an operation finds is what a process leaves that dies there. Of states that are alike the first is kept.

    Args:
        work: what is done.
        folder: where.
        into: a new folder for the states.
    """
    seen: set[str] = set()

    def keep(count: int) -> None:
        state = _digest(folder)
        if state not in seen:
            shutil.copytree(folder, into / str(count), symlinks=True)
        seen.add(state)

    into.mkdir()
    assert not _forked(work, folder, keep)
    return _count(folder), sorted((int(path.name), path) for path in into.iterdir())


def _forked(work: Work, folder: Path, at_operation: Callable[[int], object]) -> bool:
    with warnings.catch_warnings():
        # Of a fork where there are threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            _act(work, folder, at_operation)
        finally:
            os._exit(FAILED)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (DONE, DEAD), f"{folder}:\n{_log(folder).read_text()}"
    return code == DEAD


def operations(work: Work, folder: Path) -> int:
    """How many file operations `work(folder)`, which is done, has below it."""
    assert not died(work, folder)
    return _count(folder)


def _count(folder: Path) -> int:
    return int(_log(folder).read_text().splitlines()[-1])


def _digest(folder: Path) -> str:
    sha256 = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        sha256.update(f"{path.relative_to(folder)}\n".encode())
        sha256.update(path.read_bytes() if path.is_file() else b"folder")
    return sha256.hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for what tells of a session: TensorBoard's log, the environment.

    Where a run lies is in its config and in names of its card: there the folder's name is left out.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    own = {str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b".") for path in files}
    return {name: data for name, data in own.items() if "tensorboard" not in name and "environment.json" not in name}


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _act(work: Work, folder: Path, at_operation: Callable[[int], object]) -> None:
    log = os.open(_log(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Figures of time are the same in every process: they count calls.
    ticks = itertools.count()
    time.perf_counter = lambda: float(next(ticks))  # type: ignore[assignment]
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & WRITES:
                return
        elif event not in CHANGES:
            return
        place = os.fsdecode(arguments[0])
        # What stands relative to an open folder is one that is being deleted.
        if os.path.isabs(place) and not Path(place).is_relative_to(folder):
            return
        count += 1
        at_operation(count)

    sys.addaudithook(hook)
    try:
        work(folder)
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)
    os.write(log, f"\n{count}\n".encode())
    os._exit(DONE)
