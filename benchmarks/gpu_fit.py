"""A step of `vpt.fit` itself: what stands around the captured passes of a method that leaves images as they are."""

from __future__ import annotations

import time

import numpy as np
import torch

import vpt
from vpt.data.base import Arrays

# Of an epoch: what its end takes shows where there are few of them.
STEPS = (20, 100)
EPOCHS = 8
# Features are computed before the first epoch, and steps are captured in it.
BEFORE = 2


class Clock(vpt.Callback):
    """When each epoch was over, what is kept of it included."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_epoch(self, training: vpt.Training) -> None:
        """Wait for the device, and look."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def milliseconds(model: vpt.Prompted, batch: int, steps: int, *, epochs: int = EPOCHS) -> float:
    """Of a step in epochs of so many, the end of each included, on features of noise that are computed once."""
    count, (height, width) = batch * steps, model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images = Arrays(pixels, [index % len(model.classes) for index in range(count)], "noise").named(model.classes)
    clock = Clock()
    vpt.fit(model, images, batch_size=batch, epochs=epochs, lr=1e-4, callbacks=[clock], trackers=[], progress=False)
    first, *_, last = clock.times[BEFORE - 1 :]
    return (last - first) / (epochs - BEFORE) / steps * 1000
