"""Of several processes one speaks, and one that fails alone does too."""

import logging
import sys

import pytest

from vpt import VptError
from vpt.report import ranks
from vpt.report.notes import tell


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the second of two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "LATE", 0.0)
    monkeypatch.setattr(ranks, "ALONE", [])


def say() -> None:
    print("a table")
    print("a bar", file=sys.stderr)
    tell("a note")


def test_a_note_goes_through_the_package_s_logger(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("vpt")
    heard: list[str] = []
    own = logging.Handler()
    own.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(own)
    try:
        tell("one")
        logger.setLevel(logging.ERROR)
        tell("two")
    finally:
        logger.removeHandler(own)
        logger.setLevel(logging.INFO)
    assert heard == ["one"]
    assert capsys.readouterr().err == "vpt: one\n"


def test_a_process_alone_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    with ranks.one_voice():
        say()
    assert capsys.readouterr() == ("a table\n", "a bar\nvpt: a note\n")


@pytest.mark.usefixtures("second")
def test_the_others_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ranks.one_voice():
        say()
    tell("a note")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("second")
def test_one_that_fails_alone_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with ranks.one_voice():
            say()
            raise VptError("its own mistake")

    with pytest.raises(VptError) as error:
        work()
    tell(str(error.value))
    assert capsys.readouterr() == ("", "vpt: its own mistake\n")
