"""Image classification: its loss and its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vpt.model import Prompted
from vpt.report.reliability import BINS
from vpt.tasks.shares import own, share, weighted

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Classification:
    """One of C classes for each image.

    The best epoch is the one with the highest `selects`.

    Args:
        num_classes: C.
        label_smoothing: of the training loss, in [0, 1).
    """

    selects = "top1"

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def planned(self, model: Prompted, labels: Tensor) -> Tensor:
        """The labels of a batch as they are."""
        return labels

    def loss(self, model: Prompted, batch: Any, sizes: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch (images or their features, labels), its logits (B, C), and the labels.

        Cross entropy, unless the method has a loss of its own.

        Args:
            model: what is trained.
            batch: images and labels, or labels with a teacher's image features.
            sizes: images of the step in each process, where they differ: then the mean of the gradients of all
                processes is that of all images.
        """
        labels = batch[1][0] if isinstance(batch[1], tuple | list) else batch[1]
        model.method.share = share(sizes)
        loss, logits = model.loss_and_logits(batch, label_smoothing=self.label_smoothing)
        return weighted(loss, model.method.share), own(logits.detach(), sizes), own(labels, sizes)

    def metrics(self) -> MetricCollection:
        """Metrics to be updated with logits (B, C) and labels (B,); all are shares from 0 to 1.

        "top1", "top5" (or the top C of fewer classes), "mean_per_class" (over classes that have images), "ece"
        (expected calibration error in 15 bins, Guo et al., 2017) and "confusion", counts (C, C) with a row for each
        true class.
        """
        # With it come audio, text and plots: more than all else that is imported before the first step.
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

        from vpt.tasks.metrics import CalibrationError, MeanPerClass

        options: dict[str, Any] = {"num_classes": self.num_classes, "sync_on_compute": False}
        return MetricCollection(
            {
                "top1": MulticlassAccuracy(average="micro", **options),
                "top5": MulticlassAccuracy(average="micro", top_k=min(5, self.num_classes), **options),
                "mean_per_class": MeanPerClass(**options),
                "ece": CalibrationError(n_bins=BINS, **options),
                "confusion": MulticlassConfusionMatrix(**options),
            },
            compute_groups=False,
        )
