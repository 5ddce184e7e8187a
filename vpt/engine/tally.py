"""Figures of an epoch while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vpt.data.base import NO_LABEL


class Tally:
    """Loss, top-1 and speed of an epoch so far, of all processes; sums stay on the device until asked for."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums = torch.zeros(4, device=accelerator.device)
        self.started = time.perf_counter()
        self.waited = 0.0

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """`batches`; what passes until each is there counts as waiting for data."""
        iterator, end = iter(batches), object()
        while True:
            asked = time.perf_counter()
            batch = next(iterator, end)
            self.waited += time.perf_counter() - asked
            if batch is end:
                return
            yield batch

    def add(self, sums: Tensor) -> None:
        """Take in those of a batch."""
        self.sums = self.sums + sums

    def figures(self) -> dict[str, float]:
        """Means over the images so far, images per second, and the share of the time that went by waiting for data.

        Top-1 is of the images with labels, and left out where none has one.

        A GPU may still be at work on an earlier batch meanwhile: there the share is the most that data can cost.
        """
        loss, correct, images, labelled = self.accelerator.reduce(self.sums.clone(), "sum").tolist()
        seconds = time.perf_counter() - self.started
        means = {"train/loss": loss / images} | ({"train/top1": correct / labelled} if labelled else {})
        return means | {"images_per_second": images / seconds, "data_wait": self.waited / seconds}


def sums_of(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of losses, numbers of hits, of images and of those with a label of a batch, (4,), from its mean loss."""
    loss = loss.to(torch.promote_types(loss.dtype, torch.float32))
    count = torch.full_like(loss, len(labels))
    return torch.stack([loss * count, (logits.argmax(-1) == labels).sum(), count, (labels != NO_LABEL).sum()])
