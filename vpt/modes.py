"""Evaluation mode for as long as something is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards the mode that it was in, also where what is done ends in an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
