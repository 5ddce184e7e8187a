"""Few cases by default, and all of them where there is time."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """`cases` to parametrize a test with, of which those that are not `kept` are slow."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def several(cases: Iterable[tuple[Any, ...]], kept: Collection[tuple[Any, ...]]) -> list[Any]:
    """The same of cases of several arguments."""
    return [pytest.param(*case, marks=[] if case in kept else pytest.mark.slow) for case in cases]
