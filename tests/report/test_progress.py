"""Bars in a notebook: one output that is written over."""

import logging
from typing import Any

import pytest

from vpt.report import progress
from vpt.report.progress import Cell, Progress

ROW = {"epoch": 1, "train/loss": 0.5, "train/top1": 0.25, "images_per_second": 12.3, "data_wait": 0.04}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the outputs of a notebook's cell come to, one after the other."""
    import IPython.display

    texts: list[str] = []

    class Output:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            texts.append(data["text/plain"])

    def display(data: dict[str, str], **_: Any) -> Output:
        texts.append(data["text/plain"])
        return Output()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    return texts


def test_a_carriage_return_writes_over_the_last_line_alone(shown: list[str]) -> None:
    cell = Cell()
    for text in ("first\n", "\rhalf", "\rwhole", "\nthird"):
        cell.write(text)
    cell.flush()
    assert shown == ["first\nwhole\nthird"]


def test_a_bar_goes_away_and_the_line_of_the_epoch_stays(shown: list[str]) -> None:
    epochs = Progress(epochs=1)
    for _ in epochs.epoch_bar(range(3), 0):
        pass
    assert "epoch 1/1:   0%" in shown[0]
    assert shown[-1] == ""
    epochs.epoch_line(ROW)
    assert shown[-1].rstrip() == "epoch 1/1  loss 0.500, top-1 25.0%, 12 images/s, 4% waiting for data  done"


def test_what_is_over_before_it_is_shown_leaves_no_output(shown: list[str]) -> None:
    cell = Cell()
    for text in ("", "\r     ", "\r"):
        cell.write(text)
        cell.flush()
    assert shown == []


def test_nothing_is_shown_when_nothing_is_wanted(shown: list[str], capfd: pytest.CaptureFixture[Any]) -> None:
    quiet = Progress(enabled=False, epochs=1)
    assert list(quiet.epoch_bar(range(3), 0)) == [0, 1, 2]
    quiet.epoch_line(ROW)
    assert shown == []
    assert capfd.readouterr().err == ""


def test_lines_of_progress_are_logged(capfd: pytest.CaptureFixture[str]) -> None:
    progress = logging.getLogger("vpt.progress")
    Progress(epochs=2).epoch_line(ROW)
    assert capfd.readouterr().err.startswith("epoch ")
    progress.setLevel(logging.WARNING)
    try:
        Progress(epochs=2).epoch_line(ROW)
        assert capfd.readouterr().err == ""
    finally:
        progress.setLevel(logging.NOTSET)
