"""What a captured step reads beside its batch: it must be there for as long as the step is replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_HOLDING: ContextVar[list[Any] | None] = ContextVar("holding", default=None)


@contextmanager
def holding() -> Iterator[list[Any]]:
    """A list of all that is `held` meanwhile, in this thread."""
    found: list[Any] = []
    token = _HOLDING.set(found)
    try:
        yield found
    finally:
        _HOLDING.reset(token)


def is_holding() -> bool:
    """Whether a step is being captured in this thread."""
    return _HOLDING.get() is not None


def held(value: T) -> T:
    """`value`, which was computed once and may be replaced: a step that is being captured holds on to it.

    A graph reads the places that it read when it was captured, whatever has become of them.
    """
    found = _HOLDING.get()
    if found is not None:
        found.append(value)
    return value
