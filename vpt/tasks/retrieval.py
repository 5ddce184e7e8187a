"""Retrieval between images and texts: recalls and median ranks in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CUTOFFS = (1, 5, 10)


def retrieval_metrics(image: Tensor, text: Tensor, owners: Tensor, *, chunk: int = 512) -> dict[str, float]:
    """How well I images and T texts find each other; a text belongs to one image, an image has one text or more.

    The rank of a query is that of the best of its own, 1 for the first; what is as similar as that counts as
    better, so that features that are all the same find nothing. Similarities are computed `chunk` queries at a
    time, and never held all together.

    Args:
        image: L2-normalised features (I, F).
        text: L2-normalised features (T, F).
        owners: index of each text's image, (T,).
        chunk: queries at once.

    Returns:
        "i2t_r1", "i2t_r5", "i2t_r10" (share of images with a text of their own among the first 1, 5, 10),
        "i2t_median" (rank), the same of texts as "t2i_…", and "rsum", the six recalls' sum in percent.
    """
    rows = torch.arange(len(image), device=image.device)
    i2t = torch.cat([_ranks(image[part] @ text.T, rows[part][:, None] == owners) for part in rows.split(chunk)])
    columns = torch.arange(len(text), device=text.device)
    t2i = torch.cat([_ranks(text[part] @ image.T, owners[part][:, None] == rows) for part in columns.split(chunk)])
    values = _summary("i2t", i2t) | _summary("t2i", t2i)
    recalls = [value for name, value in values.items() if "_r" in name]
    return values | {"rsum": 100 * sum(recalls)}


def _ranks(similarity: Tensor, own: Tensor) -> Tensor:
    """Ranks of the best of its own for each query, from similarities (Q, N) and what is its own (Q, N)."""
    best = similarity.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)
    return 1 + ((similarity >= best) & ~own).sum(dim=1)


def _summary(direction: str, ranks: Tensor) -> dict[str, float]:
    recalls = {f"{direction}_r{k}": (ranks <= k).double().mean().item() for k in CUTOFFS}
    return recalls | {f"{direction}_median": ranks.double().quantile(0.5).item()}


def chance(images: int, texts: Sequence[int]) -> dict[str, float]:
    """The recalls that random similarities come to on average.

    Args:
        images: I.
        texts: how many texts each image has.
    """
    total = sum(texts)
    values: dict[str, float] = {}
    for k in CUTOFFS:
        misses = []
        for own in texts:
            miss = 1.0
            for place in range(min(k, total)):
                miss *= max(total - own - place, 0) / (total - place)
            misses.append(miss)
        values[f"i2t_r{k}"] = 1 - sum(misses) / len(misses)
        values[f"t2i_r{k}"] = min(k, images) / images
    return values | {"rsum": 100 * sum(values.values())}
