"""Telling images of no class that is known from those of one."""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 1000


def known_score(logits: Tensor, scale: float | None) -> Tensor:
    """How much each image looks like one of the classes, (N,): the largest of probabilities.

    Where class names are the classifier these are softmax of cosine similarities, without the scale of logits: maximum
    concept matching, MCM, at temperature 1 (Ming et al., NeurIPS 2022, equation 1). With a linear head they are
    those of the model (Hendrycks and Gimpel, ICLR 2017).

    Args:
        logits: (N, C).
        scale: of similarities; None with a linear head.
    """
    scores = logits.double() if scale is None else logits.double() / scale
    return scores.softmax(-1).amax(-1)


def separation(known: Tensor, unknown: Tensor) -> dict[str, float]:
    """How well scores tell N known images from M others.

    Returns:
        "auroc", the chance that a known image scores above another, with "auroc_low" and "auroc_high", its 95 %
        interval (bootstrap of both, percentiles); "fpr95", the share of others that are taken for known where 95 %
        of the known ones are; and "threshold", the score of that.
    """
    from torchmetrics.functional.classification import binary_auroc

    scores = torch.cat([known, unknown]).float()
    labels = torch.cat([torch.ones(len(known)), torch.zeros(len(unknown))]).long()
    threshold = known.double().quantile(0.05, interpolation="lower").item()
    low, high = _interval(known, unknown)
    return {
        "auroc": float(binary_auroc(scores, labels)),
        "auroc_low": low,
        "auroc_high": high,
        "fpr95": (unknown.double() >= threshold).double().mean().item(),
        "threshold": threshold,
    }


def _interval(known: Tensor, unknown: Tensor) -> tuple[float, float]:
    """Of the area under the curve, by ranks: how many of the others lie below each known image, ties by half."""
    generator = torch.Generator().manual_seed(0)
    ordered = unknown.double().sort().values
    found = []
    for _ in range(DRAWS):
        mine = known.double()[torch.randint(len(known), (len(known),), generator=generator)]
        others = ordered[torch.randint(len(ordered), (len(ordered),), generator=generator).sort().values]
        below = torch.searchsorted(others, mine) + torch.searchsorted(others, mine, right=True)
        found.append(below.double().mean() / 2 / len(others))
    low, high = torch.stack(found).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
