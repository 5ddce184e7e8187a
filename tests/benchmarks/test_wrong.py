"""Whatever is wrong ends in one sentence: no traceback, nothing lost, nothing left behind, nothing that hangs."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.wrong.__main__ import BAD
from benchmarks.wrong.draws import KINDS
from benchmarks.wrong.world import Attempt, attempted, build

FEW = settings(max_examples=4, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
MANY = settings(FEW, max_examples=120, derandomize=False)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build(folder)
    return folder


def check(kind: Callable[[Random], Attempt], seed: int, pristine: Path) -> None:
    attempt = kind(Random(seed))
    outcome, said = attempted(attempt, pristine, pristine.with_name("scratch"))
    assert outcome not in BAD, f"{attempt.kind}: {attempt.title}: {said}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@FEW
@given(seed=st.integers(0, 2**32))
def test_something_wrong_is_one_sentence(kind: Callable[[Random], Attempt], seed: int, pristine: Path) -> None:
    check(kind, seed, pristine)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@MANY
@given(seed=st.integers(0, 2**32))
def test_a_thousand_things_wrong_are_one_sentence_each(
    kind: Callable[[Random], Attempt], seed: int, pristine: Path
) -> None:
    check(kind, seed, pristine)


def test_what_is_lost_or_left_behind_is_seen(pristine: Path) -> None:
    def loses(world: Path) -> Attempt:
        return Attempt("test", "", call=(world / "notes.txt").unlink)

    scratch = pristine.with_name("scratch")
    assert attempted(loses(scratch), pristine, scratch)[0] == "lost"
    said = Attempt("test", "", arguments=("train", "config.yaml", "out=other", "--quiet"))
    assert attempted(said, pristine, scratch)[0] == "accepted"
    assert attempted(Attempt("test", "", call=lambda: 1 / 0), pristine, scratch) == (
        "traceback",
        "ZeroDivisionError: division by zero",
    )
