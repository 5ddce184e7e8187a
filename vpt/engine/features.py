"""Image features that training leaves as they are, computed once."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vpt.data.base import Samples
from vpt.data.loading import loader
from vpt.data.pairs import Pairs
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress


@torch.no_grad()
def image_features(
    model: Prompted,
    data: Samples | Pairs,
    transform: ImageTransform,
    accelerator: Accelerator,
    progress: Progress,
    *,
    views: int,
    batch_size: int,
    workers: int,
    seed: int | None,
) -> Tensor:
    """Features of `views` augmented views of every image, (V, N, F), on the CPU; every process computes them all."""
    was_training = model.training
    model.eval()
    batches: Any = loader(data, transform, batch_size=batch_size, seed=seed, workers=workers)
    found = []
    for view in range(views):
        batches.sampler.set_epoch(view)
        parts = []
        for images, _ in progress.bar(batches, f"image features, view {view + 1}/{views}"):
            with accelerator.autocast():
                features = model.features(images.to(accelerator.device))
                parts.append(features.to(torch.promote_types(features.dtype, torch.float32)).cpu())
        found.append(torch.cat(parts))
    model.train(was_training)
    return torch.stack(found)
