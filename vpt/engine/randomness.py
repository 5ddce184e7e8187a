"""Random numbers of a run, which are its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def put_back(device: torch.device) -> Iterator[None]:
    """Have the generators of Python, numpy and torch, its GPU's too, go on afterwards from where they were.

    `fit` seeds them in each epoch: who draws the weights of several models between runs would draw the same ones again.
    """
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
