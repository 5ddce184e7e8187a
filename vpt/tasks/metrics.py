"""Metrics of torchmetrics where theirs say something else."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError, MulticlassConfusionMatrix

from vpt.tasks.calibration import below_one


class MeanPerClass(MulticlassConfusionMatrix):
    """The mean of the classes' top-1, over those that have images: scikit-learn's balanced accuracy.

    torchmetrics' macro average counts a class without images as 0 where it is predicted.
    """

    def compute(self) -> Tensor:
        """A share from 0 to 1."""
        counts = super().compute()
        images = counts.sum(1)
        there = images > 0
        mean: Tensor = (counts.diagonal()[there] / images[there]).mean()
        return mean


class CalibrationError(MulticlassCalibrationError):
    """Expected calibration error of logits, in bins of equal width of which the last holds 1."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in logits (B, C) and labels (B,)."""
        super().update(below_one(preds.softmax(-1)), target)
