"""Clusters of tokens, each pooled to one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vpt.precision import full_precision


def pooled_clusters(tokens: Tensor, centres: Tensor, pool: Literal["mean", "max"] | str, rounds: int = 20) -> Tensor:
    """The mean, or the maximum of each channel, of the k clusters of tokens (N, D), by k-means (Lloyd, 1982): (k, D).

    Args:
        tokens: at least k of them.
        centres: where the clusters begin, (k, D). A cluster that no token is nearest to keeps its centre.
        pool: "mean" or "max".
        rounds: at most; fewer where the clusters stay as they are.
    """
    points, found = full_precision(tokens), full_precision(centres).clone()
    nearest = torch.full((len(points),), -1, device=points.device)
    for _ in range(rounds):
        before, nearest = nearest, torch.cdist(points, found).argmin(1)
        if torch.equal(before, nearest):
            break
        found = _pooled(points, nearest, found, "mean")
    return _pooled(points, nearest, found, pool).to(tokens.dtype)


def _pooled(points: Tensor, nearest: Tensor, centres: Tensor, pool: str) -> Tensor:
    reduce = {"mean": "mean", "max": "amax"}[pool]
    places = nearest[:, None].expand_as(points)
    return centres.scatter_reduce(0, places, points, reduce=reduce, include_self=False)
