"""What a model says of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from vpt.errors import VptError
from vpt.images import open_image, to_rgb

if TYPE_CHECKING:
    from vpt.model import Prompted

ImageLike = str | Path | Image.Image


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: the best class, its probability, and that of every class."""

    label: str
    score: float
    scores: dict[str, float] = field(repr=False)


@torch.inference_mode()
def predict(model: Prompted, images: Sequence[ImageLike], batch_size: int) -> list[Prediction]:
    """Class probabilities of image files or PIL images, `batch_size` at a time.

    Raises:
        VptError: a file is missing or is no image, or the model has no classes.
    """
    if not model.classes:
        raise VptError("the model has no classes to choose from: name them with --labels, or set_classes([…]).")
    transform, device = model.preprocessing.transform(), next(model.parameters()).device
    was_training = model.training
    model.compile_prompts()
    found: list[Prediction] = []
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        pictures = [to_rgb(image) if isinstance(image, Image.Image) else open_image(image) for image in some]
        logits = model(torch.stack([transform(picture) for picture in pictures]).to(device))
        for row in logits.float().softmax(-1).tolist():
            scores = dict(sorted(zip(model.classes, row, strict=True), key=lambda pair: -pair[1]))
            label = next(iter(scores))
            found.append(Prediction(label, scores[label], scores))
    model.train(was_training)
    return found
