"""Features of many images and texts, and how well they find each other."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vpt.capture import repeated
from vpt.data.pairs import Pairs
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.modes import evaluating
from vpt.normalised import normalised
from vpt.precision import full_precision
from vpt.report.progress import Progress
from vpt.tasks.retrieval import retrieval_metrics

TEXTS_AT_ONCE = 512


@torch.no_grad()
def measure_retrieval(
    model: Prompted, pairs: Pairs, batches: Any, accelerator: Accelerator, progress: Progress
) -> dict[str, Any]:
    """Recalls and median ranks of all images and all captions of `pairs`, as in `retrieval_metrics`.

    Args:
        model: with a text side.
        pairs: images with one or more captions each.
        batches: a prepared loader of their images, in order.
        accelerator: of the run.
        progress: where to show how far it is.
    """
    if not len(pairs):
        raise VptError("there is nothing to evaluate: the data set is empty.")
    images = []
    captions = [(owner, caption) for owner, of_image in enumerate(pairs.captions) for caption in of_image]

    def features(given: Tensor) -> Tensor:
        with accelerator.autocast():
            return normalised(full_precision(model.features(given)))

    with evaluating(model):
        features_of = repeated(features, model, len(batches))
        for batch in progress.bar(batches, "evaluating images"):
            # What a captured pass gives is overwritten by the next.
            images.append(accelerator.gather_for_metrics(features_of(batch[0]).clone()))
        texts = text_features(model, [caption for _, caption in captions], accelerator, progress)
    owners = torch.tensor([owner for owner, _ in captions], device=texts.device)
    return retrieval_metrics(torch.cat(images), texts, owners)


@torch.no_grad()
def text_features(model: Prompted, texts: list[str], accelerator: Accelerator, progress: Progress) -> Tensor:
    """L2-normalised features (N, F) of texts, some at a time, the short ones with the short ones."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: list[Tensor] = []
    parts = [order[start : start + TEXTS_AT_ONCE] for start in range(0, len(order), TEXTS_AT_ONCE)]
    for part in progress.bar(parts, "evaluating texts"):
        ids = model.tokenize([texts[index] for index in part])
        with accelerator.autocast():
            found.append(normalised(full_precision(model.encode_text(ids))))
    features = torch.cat(found)
    return features[torch.tensor(order, device=features.device).argsort()]
