"""Image features that training leaves as they are, computed once."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vpt.capture import repeated
from vpt.data.aligned import aligned
from vpt.data.base import Samples
from vpt.data.loading import loader
from vpt.data.pairs import Pairs
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.modes import evaluating
from vpt.precision import full_precision
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress

# Images that are encoded at once, at most.
AT_ONCE = 256


def chosen_views(model: Prompted, views: int | None, *, still: bool) -> int:
    """How many views of each image have their features computed once: 0 where training computes them anew.

    Args:
        model: what is trained.
        views: as asked for; None for one where images are `still`, not augmented, and training leaves them as they are.
            Of a model with a teacher they are those that the teacher sees.

    Raises:
        VptError: training changes the features that are asked for.
    """
    if model.method.classifier.needs_teacher:
        # They are its teacher's.
        return int(still) if views is None else views
    if views is None:
        return int(still and model.keeps_images)
    if views and not model.keeps_images:
        raise VptError(f"train.views={views}: {model.method.name} changes image features as it trains: leave it out.")
    return views


def features_once(
    model: Prompted,
    data: Any,
    transform: ImageTransform,
    accelerator: Accelerator,
    progress: Progress,
    *,
    views: int,
    **options: Any,
) -> Tensor | None:
    """`image_features` where there are to be any: of one view for a method that needs them."""
    wanted = views or (model.method.classifier.needs_features and model.keeps_images)
    if not wanted or not isinstance(data, Samples | Pairs):
        return None
    return image_features(model, data, transform, accelerator, progress, views=views or 1, **options)


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
    # A batch of features may be larger than one of images can be.
    batches: Any = loader(data, transform, batch_size=min(batch_size, AT_ONCE), seed=seed, workers=workers)

    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            return full_precision(model.kept(images))

    found = []
    with evaluating(model):
        features_of = repeated(forward, model, views * len(batches))
        for view in range(views):
            batches.sampler.set_epoch(view)
            parts = []
            for images, _ in progress.bar(batches, f"image features, view {view + 1}/{views}"):
                parts.append(features_of(images.to(accelerator.device)).cpu())
            found.append(torch.cat(parts))
    return torch.stack(found)


def prepare_method(model: Prompted, train: Any, features: Tensor | None, accelerator: Accelerator) -> None:
    """Give the method the features of all training images (V, N, F), the mean of their views or all of them."""
    if features is None or not isinstance(train, Samples) or model.text is None:
        raise VptError(f"{model.method.name} looks at all training images at once: give labelled `Samples`.")
    labels = torch.tensor(aligned(train, model.classes, by_number=True).labels, device=accelerator.device)
    features = features.to(accelerator.device)
    if model.method.classifier.all_views:
        features, labels = features.flatten(0, 1), labels.repeat(len(features))
    else:
        features = features.mean(0)
    model.prepare(features, labels)


def search_method(model: Prompted, val: Any, features: Tensor | None, accelerator: Accelerator) -> bool:
    """Whether the method chose by the features of validation images (1, M, F): where it does, and there are any."""
    if not model.method.classifier.searches or features is None or not isinstance(val, Samples) or model.text is None:
        return False
    model.eval()
    labels = torch.tensor(aligned(val, model.classes, by_number=True).labels, device=accelerator.device)
    model.search(features[0].to(accelerator.device), labels)
    return True
