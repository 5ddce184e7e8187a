"""Which epoch is the best, and how long ago it was."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vpt.engine.record import Record


class Learner(nn.Module):
    """A stand-in for a model: one number that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def tuned_state(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}


def kept(figures: list[float | None], selects: str | None = "val/top1") -> Record:
    """The record of a run whose learned number is that of the epoch; None is an epoch without validation."""
    record, model = Record(selects), Learner()
    for epoch, figure in enumerate(figures, 1):
        nn.init.constant_(model.value, epoch)
        row: dict[str, Any] = {"epoch": epoch, "seconds": float(epoch)}
        record.add(row | ({} if figure is None else {"val/top1": figure}), model)  # type: ignore[arg-type]
    return record


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1))
def test_the_first_highest_is_the_best(figures: list[float]) -> None:
    result = kept(list(figures)).result(epochs=len(figures))
    assert result.best_epoch == figures.index(max(figures)) + 1
    assert result.metrics == {"val/top1": max(figures)}
    assert not result.stopped_early


@given(st.lists(st.sampled_from([None, 0.25, 0.5]), min_size=1))
def test_what_was_learned_by_then_is_kept_as_it_was(figures: list[float | None]) -> None:
    record = kept([*figures, 0.0])
    assert record.best["tuned"]["value"] == record.best["epoch"]


@pytest.mark.parametrize(("figures", "since"), [([0.5], 0), ([0.5, 0.5, None, 0.4], 2), ([0.1, None, 0.2, None], 0)])
def test_only_evaluations_count_towards_patience(figures: list[float | None], since: int) -> None:
    assert kept(figures).since_best() == since


def test_without_a_figure_to_select_by_the_last_epoch_is_kept() -> None:
    record = kept([0.9, 0.1], selects=None)
    assert record.best["epoch"] == 2
    assert record.since_best() == 0


def test_a_record_goes_on_from_its_state() -> None:
    before = kept([0.1, 0.3])
    after = Record("val/top1")
    after.load_state_dict(before.state_dict())
    assert after.seconds == 2.0
    assert after.result(epochs=3).stopped_early
