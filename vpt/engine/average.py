"""Averages of what is trained: over steps, and which epoch is kept of a method that averages over epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from timm.utils import ModelEmaV3
from torch import nn

from vpt.errors import VptError
from vpt.model import Prompted


class Average:
    """Of the trained parameters alone, never a copy of the backbone; without a decay it does nothing.

    Args:
        tuned: the parameters.
        decay: share of the old average that each step keeps, in [0, 1); None for no average.
    """

    def __init__(self, tuned: Sequence[nn.Parameter], decay: float | None) -> None:
        self.tuned = nn.ParameterList(tuned)
        self.average = ModelEmaV3(self.tuned, decay=decay) if decay is not None else None

    def update(self) -> None:
        """Take in the parameters after a step."""
        if self.average is not None:
            self.average.update(self.tuned)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in place of the parameters, which come back afterwards."""
        if self.average is None:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.tuned]
        self._set(list(self.average.module))
        try:
            yield
        finally:
            self._set(own)

    def state_dict(self) -> dict[str, Any]:
        """The average, to go on from."""
        return {} if self.average is None else self.average.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        if self.average is not None:
            self.average.module.load_state_dict(state)

    @torch.no_grad()
    def _set(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.tuned, values, strict=True):
            parameter.copy_(value)


def kept_epoch(
    model: Prompted, *, keep: Literal["best", "last"] | None, ema: float | None, patience: int | None
) -> Literal["best", "last"]:
    """Which epoch is kept: the best one if nothing is said; of a method that averages over all epochs the last.

    Raises:
        VptError: an option that would leave this average out.
    """
    if not model.method.averages_epochs:
        return keep or "best"
    for option, given in {
        "keep=best": keep == "best",
        "ema": ema is not None,
        "patience": patience is not None,
    }.items():
        if given:
            raise VptError(
                f"train.{option} would leave out the average over all epochs that {model.method.name} ends with: leave "
                "it out."
            )
    return "last"
