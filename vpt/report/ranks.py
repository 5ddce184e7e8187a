"""Of several processes that a launcher started, one speaks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

# Where all processes fail, the launcher ends the others within this time of the first.
LATE = 5.0


def speaks() -> bool:
    """Whether this is the first of several processes, or one that runs alone."""
    return int(os.environ.get("WORLD_SIZE") or 1) <= 1 or int(os.environ.get("RANK") or 0) == 0


@contextmanager
def one_voice() -> Iterator[None]:
    """What all processes say the first of them says; an error that another one has alone comes out seconds later."""
    if speaks():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except BaseException:
            time.sleep(LATE)
            raise
