"""The part of a step's images that one of several processes has, where the parts may differ in size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed.nn.functional
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor


def share(sizes: Sequence[int] | None) -> float:
    """What the mean over this process's images counts for, so that the mean over processes is that over all images.

    Args:
        sizes: images of the step in each process; None where they are the same.
    """
    return 1.0 if sizes is None else sizes[PartialState().process_index] * len(sizes) / sum(sizes)


def weighted(loss: Tensor, weight: float) -> Tensor:
    """A loss of the same value, with a gradient that is `weight` times as large."""
    return loss if weight == 1 else loss.detach() + weight * (loss - loss.detach())


def own(x: Tensor, sizes: Sequence[int] | None) -> Tensor:
    """Of a batch its images; one that a process without any has taken is none."""
    return x if sizes is None else x[: sizes[PartialState().process_index]]


def gathered(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Features of all processes (N, F), of which each has `sizes` of them, with gradients."""
    filled = F.pad(x, (0, 0, 0, max(sizes) - len(x)))
    parts = torch.distributed.nn.functional.all_gather(filled)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
