"""What a training run came to so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vpt.model import Prompted


@dataclass(frozen=True)
class FitResult:
    """What training came to.

    Attributes:
        history: a row for each epoch: "epoch" (from 1), "step", "lr/prompts" and so on for each group of
            parameters, "train/loss", "train/top1", "images_per_second", "data_wait" (share of the time that went by
            waiting for data), "seconds", and "val/…" where it was evaluated.
        best_epoch: the epoch that the model was left at: the first with the highest "val/top1"; without validation
            images, or where `keep` says so, the last.
        metrics: the "val/…" figures of that epoch.
        seconds: of training and validation, all sessions of a resumed run together.
        stopped_early: whether `patience` or a callback ended it.
    """

    history: list[dict[str, Any]] = field(repr=False)
    best_epoch: int
    metrics: dict[str, float]
    seconds: float
    stopped_early: bool

    def _repr_html_(self) -> str:
        """What a notebook shows: figures and curves."""
        from vpt.report.notebook import run_html

        return run_html(self)


class Record:
    """A row for each epoch, and the best of them with what was learned by then.

    Args:
        selects: the figure of a row whose first highest value is the best; None for the last epoch.
    """

    def __init__(self, selects: str | None) -> None:
        self.selects = selects
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "metrics": {}, "tuned": {}}

    def add(self, row: dict[str, Any], model: Prompted) -> bool:
        """Take in an epoch's row, and say whether it is the best so far."""
        self.history.append(row)
        if self.selects and row.get(self.selects, -1.0) <= self.best["metrics"].get(self.selects, -1.0):
            return False
        tuned: dict[str, Tensor] = model.tuned_state()
        self.best = {
            "epoch": row["epoch"],
            "metrics": {name: value for name, value in row.items() if name.startswith("val/")},
            "tuned": {name: tensor.detach().cpu().clone() for name, tensor in tuned.items()},
        }
        return True

    def since_best(self) -> int:
        """How many evaluations were not better than the best."""
        return sum(self.selects in row for row in self.history[self.best["epoch"] :])

    @property
    def seconds(self) -> float:
        """Of all epochs so far."""
        seconds: float = self.history[-1]["seconds"] if self.history else 0.0
        return seconds

    def state_dict(self) -> dict[str, Any]:
        """What to go on from."""
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.history, self.best = state["history"], state["best"]

    def result(self, *, epochs: int, ended: bool = False) -> FitResult:
        """The result of a run that was to have so many epochs, and was `ended` by a callback."""
        best = self.best
        return FitResult(
            self.history, best["epoch"], best["metrics"], self.seconds, ended or len(self.history) < epochs
        )
