"""Of several processes that a launcher started, one speaks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

# Where all processes fail, the launcher ends the others within this time of the first.
LATE = 5.0

# The process that started this one and its like tells what ended them.
STARTED_BY_VPT = "VPT_STARTED"

# What this process failed with, although the first one did not end it.
ALONE: list[BaseException] = []


def speaks() -> bool:
    """Whether this is the first of several processes, or one that runs or has failed alone."""
    several, rank = (int(os.environ.get(name) or default) for name, default in (("WORLD_SIZE", 1), ("RANK", 0)))
    return several <= 1 or rank == 0 or bool(ALONE)


@contextmanager
def one_voice() -> Iterator[None]:
    """What all processes say the first of them says; an error that another one has alone comes out seconds later."""
    if speaks():
        yield
        _part()
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except BaseException as error:
            if STARTED_BY_VPT not in os.environ:
                time.sleep(LATE)
                ALONE.append(error)
            raise
    _part()


def _part() -> None:
    """Processes that trained together take leave of each other, which torch complains of where they do not."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
