"""What `fit` refuses before any work is done."""

from __future__ import annotations

import math
from typing import Any

from vpt.data.base import Samples
from vpt.errors import VptError
from vpt.model import Prompted

BELOW_ONE = math.nextafter(1, 0)
# Of random numbers; numpy takes no more.
MOST_SEED = 2**32 - 1
MOST = 10**9
# Processes that load images: more would be a slip of the hand, and bring a machine to its knees.
MOST_WORKERS = 512

WITHOUT = {"coop": ("warmup_epochs", "min_lr"), "annealing": ("warmup_epochs",), "vpt": ("min_lr",)}


def check_counts(**values: int | None) -> None:
    """Nothing, if each is 1 or more, or not given."""
    _check_range(1, math.inf, "1 or more", values)
    _check_range(1, MOST, f"1 to {MOST:,}", values)


def check_not_negative(**values: float | None) -> None:
    """Nothing, if none is below 0."""
    _check_range(0, math.inf, "0 or more", values)


def check_shares(**values: float | None) -> None:
    """Nothing, if each is from 0 to below 1, or not given."""
    _check_range(0, BELOW_ONE, "0 to 1, and less than 1", values)


def check_sizes(*, clip_norm: float | None, workers: int, seed: int) -> None:
    """Nothing, if each makes sense."""
    _check_range(0, MOST_WORKERS, f"0 to {MOST_WORKERS}", {"workers": workers})
    _check_range(0, MOST_SEED, f"0 to {MOST_SEED}", {"seed": seed})
    if clip_norm == 0:
        raise VptError("clip_norm=0 leaves nothing of any gradient: give more, or leave it out.")


def check_decay(weight_decay: float, rate: float) -> None:
    """Nothing, if a step at the highest learning rate leaves something of a parameter."""
    if weight_decay * rate >= 1:
        raise VptError(
            f"weight_decay={weight_decay} leaves nothing of a parameter in one step at learning rate {rate:.3g}: give "
            f"less than {1 / rate:.3g}."
        )


def check_schedule(schedule: str, **given: float | None) -> None:
    """Nothing, if the schedule has the options that are given."""
    for option in WITHOUT.get(schedule, ()):
        if given[option]:
            raise VptError(f"schedule={schedule!r} has no {option}: leave it out.")


def check_warmup(warmup_epochs: float | None, epochs: int) -> None:
    """Nothing, if the warm-up ends before the run does."""
    if warmup_epochs is not None and not 0 <= warmup_epochs <= epochs:
        raise VptError(f"warmup_epochs={warmup_epochs} does not fit into epochs={epochs}: give less, or leave it out.")


def check_search(model: Prompted, val: Any) -> None:
    """Nothing, if there is what a method that chooses by validation images needs."""
    if model.method.classifier.searches and not (val is None or isinstance(val, Samples)):
        raise VptError(f"{model.method.name} chooses by features of validation images: give labelled `Samples` as val.")


def _check_range(low: float, high: float, told: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        # What is no number is told with the type that it should have.
        if isinstance(value, int | float) and not low <= value <= high:
            raise VptError(f"{name}={value}: give {told}.")
