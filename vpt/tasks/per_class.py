"""The mean over classes of how often each is recognised."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix


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
