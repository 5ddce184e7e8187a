"""Figures of an epoch while it runs."""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from torch import Tensor


class Tally:
    """Loss, top-1 and speed of an epoch so far, of all processes; sums stay on the device until asked for."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums = torch.zeros(3, device=accelerator.device)
        self.started = time.perf_counter()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch, with its mean loss."""
        count = torch.full_like(self.sums[0], len(labels))
        self.sums += torch.stack([loss.detach() * count, (logits.argmax(-1) == labels).sum(), count])

    def figures(self) -> dict[str, float]:
        """Means over the images so far, and images per second."""
        loss, correct, images = self.accelerator.reduce(self.sums.clone(), "sum").tolist()
        seconds = time.perf_counter() - self.started
        return {"train/loss": loss / images, "train/top1": correct / images, "images_per_second": images / seconds}
