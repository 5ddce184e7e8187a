"""The folder of a run: whose it is, and how a run that is to be overwritten leaves it and comes back to it."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatch
from os import getpid
from pathlib import Path
from typing import Any, Self

import psutil
from filelock import FileLock, Timeout

from vpt.errors import VptError
from vpt.files import flush, is_temporary, make_folder, told

CONFIG, ENVIRONMENT, IMAGES, RESULT = "config.yaml", "environment.json", "images.json", "result.json"
PREDICTIONS = "predictions.csv"
STATE, BACKBONE, BOARD = "last/training.pt", "backbone", "tensorboard"
# What a run writes, and what protocols measure of it; the result is the first to leave and the last to come back.
TOLD = (RESULT, "new.json", "target-*.json", CONFIG, ENVIRONMENT, IMAGES, "metrics.*", PREDICTIONS)
OWN = (*TOLD, BOARD, "last", "best", BACKBONE)
LOCK = ".lock"
# A run that is overwritten: on its way out of the folder, out of it, and on its way back.
LEAVING, FORMER, RETURNING = ".leaving", ".former", ".returning"
# Workers that load images outlive a process that was killed by some seconds, and hold its lock.
ORPHANS = 15.0
MINUTE = 60.0
OWNER = re.compile(r"process (\d+) on (\S+)(?: since (\S+))?")
# A clock that is set a little is no other process.
SAME_TIME = 1.0


class Lock:
    """One process at a time writes to a folder; the lock of a process that has died holds nobody up.

    Args:
        folder: that is written to.
        patience: seconds to wait for another process.
    """

    def __init__(self, folder: Path, *, patience: float = 0.0) -> None:
        self.path = folder / LOCK
        self.patience = patience
        self.lock = FileLock(self.path)

    def __enter__(self) -> Self:
        make_folder(self.path.parent)
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            VptError: another process has it.
        """
        with told(self.path.parent):
            began = time.monotonic()
            while True:
                try:
                    self.lock.acquire(timeout=0)
                    break
                except Timeout as error:
                    owner = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
                    if time.monotonic() - began > (self.patience if _lives(owner) else max(self.patience, ORPHANS)):
                        raise VptError(
                            f"{self.path.parent} is written to by another run ({owner or 'which does not say more'}): "
                            "wait for it, or name another folder."
                        ) from error
                    time.sleep(0.05)
            # Windows lets nobody write to a file that is locked.
            with suppress(PermissionError):
                own = this_process()
                since = datetime.fromtimestamp(own["began"], UTC).isoformat()
                self.path.write_text(f"process {own['pid']} on {own['host']} since {since}", encoding="utf-8")

    def release(self) -> None:
        """Leave the folder to others, without a trace."""
        if self.lock.is_locked:
            # Removed while it is held: who waits for it sees that it is gone, and makes another.
            with suppress(OSError):
                self.path.unlink()
            self.lock.release()

    def clear(self) -> None:
        """Take away the file that a process has left which died, once nobody holds it.

        Raises:
            VptError: another process has the folder.
        """
        self.acquire()
        self.release()


def this_process() -> dict[str, Any]:
    """What tells this process from all others, as JSON can hold it: "host", "pid" and "began"."""
    return {"host": socket.gethostname(), "pid": getpid(), "began": psutil.Process().create_time()}


def lives(pid: int, began: float | None) -> bool:
    """Whether a process of this machine may still be there; its number may be another's by now.

    Args:
        pid: its number.
        began: when, in seconds since 1970; None where that is not known.
    """
    try:
        process = psutil.Process(pid)
        # One that has died and that nobody asks after keeps its number, and holds nothing.
        gone = process.status() == psutil.STATUS_ZOMBIE
        return not gone and (began is None or abs(process.create_time() - began) < SAME_TIME)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _lives(owner: str) -> bool:
    """Whether the process that calls itself so may still be there; older versions do not say since when."""
    said = OWNER.fullmatch(owner)
    if said is None or said[2] != socket.gethostname():
        return True
    # What is no time says nothing.
    with suppress(ValueError, OverflowError):
        return lives(int(said[1]), datetime.fromisoformat(said[3]).timestamp() if said[3] else None)
    return True


def own(folder: Path) -> Iterator[Path]:
    """What a run has written to `folder`, its result first; what a user has put there is not the run's."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for pattern in OWN:
        yield from (entry for entry in entries if fnmatch(entry.name, pattern))


def holds_nothing(folder: Path) -> bool:
    """Whether there is no more in `folder` than a run leaves that ended before its first epoch did."""
    left = {CONFIG, ENVIRONMENT, IMAGES, LOCK, BOARD}
    return not folder.is_dir() or all(e.name in left or is_temporary(e.name) for e in folder.iterdir())


def is_run(folder: Path) -> bool:
    """Whether a run has been begun in `folder`."""
    return any((folder / name).exists() for name in (ENVIRONMENT, LEAVING, FORMER, RETURNING))


def has_saved(folder: Path) -> bool:
    """Whether the run in `folder` has come to its first save."""
    return any((folder / name).is_file() for name in (STATE, "best/vpt.json", RESULT))


def settle(folder: Path) -> None:
    """Bring to an end what a process was about that died while a run left the folder, or came back to it."""
    if (folder / RETURNING).is_dir():
        _come_back(folder)
    if (folder / LEAVING).is_dir():
        _leave(folder)


def set_aside(folder: Path) -> None:
    """Have the run in `folder` leave it, until `forget` or `bring_back`."""
    settle(folder)
    if (folder / FORMER).is_dir() and not has_saved(folder):
        # It was overwritten by one that came to nothing.
        clear(folder)
        return
    forget(folder)
    if any(own(folder)):
        _leave(folder)


def forget(folder: Path) -> None:
    """Delete the run that was set aside."""
    if (folder / FORMER).is_dir():
        with told(folder):
            shutil.rmtree(folder / FORMER)


def bring_back(folder: Path) -> None:
    """Have the run that was set aside, if any, in the place of one that came to nothing."""
    if not (folder / FORMER).is_dir():
        return
    with told(folder):
        clear(folder)
        (folder / FORMER).rename(folder / RETURNING)
    _come_back(folder)


def clear(folder: Path) -> None:
    """Delete what the run in `folder` has written."""
    with told(folder):
        for entry in list(own(folder)):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _leave(folder: Path) -> None:
    """As long as the place is called `LEAVING`, what is in the folder is of the run that leaves."""
    make_folder(folder / LEAVING)
    with told(folder):
        for entry in list(own(folder)):
            entry.rename(folder / LEAVING / entry.name)
        flush(folder)
        (folder / LEAVING).rename(folder / FORMER)
        flush(folder)


def _come_back(folder: Path) -> None:
    with told(folder):
        for entry in reversed(list(own(folder / RETURNING))):
            entry.rename(folder / entry.name)
        flush(folder)
        shutil.rmtree(folder / RETURNING)
