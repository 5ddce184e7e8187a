"""Errors that a user can mend, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from vpt.report.notes import printable

MANY = 12


class VptError(Exception):
    """A mistake in what was asked for: one sentence naming the thing, the place and the remedy."""

    def __init__(self, sentence: str) -> None:
        # What a worker process raises torch raises anew, with the worker's traceback as its text; the sentence ends it.
        kind = type(self)
        told = sentence.rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].rstrip("\n") or sentence
        # Names in it may hold what a terminal acts on, and what libraries say may have several lines.
        super().__init__(printable(" ".join(told.splitlines())))


class DivergedError(VptError):
    """A loss that is no longer finite."""


def did_you_mean(name: str, known: Iterable[str], *, see: str = "") -> str:
    """The end of a sentence: the near name in `known`, or all of `known`; of many the first, or where to `see` all."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(known) <= MANY:
        return f"there is {', '.join(known)}."
    return f"see `{see}`." if see else f"there is {', '.join(known[:MANY])} and {len(known) - MANY} more."
