"""Processes that die at a chosen file operation, and what they leave."""

import itertools
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
DEAD = 9


def dies(work: Callable[[], Any], *, at: int, below: Path) -> bool:
    """Whether a process that does `work` comes to the file operation `at` (1, 2, …) below a folder, where it dies.

    It ends there as by a power cut: without cleaning up. With `at` 0 nothing ends it.
    """
    with warnings.catch_warnings():
        # Of a fork where there are threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            _act(work, at, below)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DEAD), f"at operation {at}:\n{below.with_suffix('.err').read_text()}"
    return code == DEAD


def _act(work: Callable[[], Any], at: int, below: Path) -> None:
    log = os.open(below.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
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
        if os.path.isabs(place) and not Path(place).is_relative_to(below):
            return
        count += 1
        if count == at:
            os._exit(DEAD)

    sys.addaudithook(hook)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def walk(
    begin: Callable[[Path], Any], again: Callable[[Path], Any], place: Path, *, step: int = 1, first: int = 1
) -> Iterator[tuple[int, Path]]:
    """Die at each file operation (or each `step`th) of `begin(folder)`, let `again(folder)` end what was begun.

    Yields:
        The operation, and the folder afterwards.
    """
    for at in itertools.count(first, step):
        folder = place / f"at-{at}"
        folder.mkdir()
        if not dies(lambda folder=folder: begin(folder), at=at, below=folder):  # type: ignore[misc]
            return
        dies(lambda folder=folder: again(folder), at=0, below=folder)  # type: ignore[misc]
        yield at, folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for what tells of the session: TensorBoard's log, environment."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    own = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: data for name, data in own.items() if "tensorboard" not in name and "environment.json" not in name}
