"""Processes that load images, and what is said where one of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vpt.errors import VptError


@contextmanager
def told_workers() -> Iterator[None]:
    """What torch says of a worker that died, as one sentence.

    Raises:
        VptError: in place of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise VptError(
            f"a process that loads images died ({str(error).splitlines()[0].strip(' .')}), most often for want of "
            "memory: set fewer train.workers, or smaller images; what was saved before stays."
        ) from error
