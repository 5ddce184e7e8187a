"""Whether probabilities mean what they say: one temperature (Guo et al., ICML 2017), and errors of calibration."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from vpt.report.reliability import BINS

# Of a temperature: outside of them probabilities are all the same, or all 0 and 1.
LOWEST, HIGHEST = 0.01, 100.0
# In float32.
LARGEST = 1 - 2**-24


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 for which softmax(z / T) has the lowest negative log-likelihood (section 4.2, "temperature scaling").

    Args:
        logits: z of validation images, (N, C).
        labels: theirs, (N,).
    """
    from scipy.optimize import minimize_scalar

    logits, labels = logits.double(), labels.long()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), labels))

    # In log T: the loss is convex in 1 / T, so that it has one minimum.
    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return float(math.exp(found.x))


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of probabilities (N, C) in 15 bins of equal width (section 2)."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    given = below_one(probabilities.float())
    classes = probabilities.shape[1]
    return float(multiclass_calibration_error(given, labels.long(), num_classes=classes, n_bins=BINS))


def below_one(probabilities: Tensor) -> Tensor:
    """Probabilities in float32, those of 1 a little less: torchmetrics has a bin of its own, a sixteenth, for these."""
    return probabilities.clamp(max=LARGEST)


def calibration(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Errors of calibration and negative log-likelihood of logits (N, C), as they are and divided by a temperature."""
    found = {}
    for name, scaled in (("", logits.double()), ("_calibrated", logits.double() / temperature)):
        found[f"ece{name}"] = calibration_error(scaled.softmax(-1), labels)
        found[f"nll{name}"] = F.cross_entropy(scaled, labels.long()).item()
    return found
