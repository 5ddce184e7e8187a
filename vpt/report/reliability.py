"""Confidence against accuracy, in bins."""

from __future__ import annotations

from typing import Any

from torch import Tensor

BINS = 15


def reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> list[dict[str, Any]]:
    """A row for each bin of confidence that holds images: "from", "to", "images", "confidence" and "accuracy" (means).

    Args:
        confidence: probability of what was said, (N,).
        right: whether it was right, (N,).
        bins: of equal width.
    """
    place = (confidence * bins).ceil().clamp(1, bins).long() - 1
    rows = []
    for number in range(bins):
        here = place == number
        if here.any():
            means = {"confidence": confidence[here].mean().item(), "accuracy": right[here].double().mean().item()}
            rows.append({"from": number / bins, "to": (number + 1) / bins, "images": int(here.sum())} | means)
    return rows
