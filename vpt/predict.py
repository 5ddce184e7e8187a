"""What a model says of images: files, pictures, arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vpt.capture import repeated
from vpt.errors import VptError
from vpt.images import open_image, picture, to_rgb
from vpt.modes import evaluating
from vpt.precision import full_precision
from vpt.preprocessing import transformed

if TYPE_CHECKING:
    from vpt.model import Prompted

ImageLike = str | Path | Image.Image | np.ndarray | Tensor

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: the best class, its probability, and that of every class."""

    label: str
    score: float
    scores: dict[str, float] = field(repr=False)


def predict(model: Prompted, images: Any, batch_size: int) -> list[Prediction]:
    """Class probabilities of images, `batch_size` at a time.

    Args:
        model: with classes.
        images: a sequence or batch (B, …), each as `as_picture` takes it.
        batch_size: images that go through the model at once.

    Raises:
        VptError: an image cannot be read, or the model has no classes.
    """
    check_classes(model)
    if batch_size < 1:
        raise VptError(f"batch_size={batch_size}: give 1 or more.")
    transform, device = model.preprocessing.transform(), next(model.parameters()).device
    found: list[Prediction] = []
    with evaluating(model):
        of = predictor(model, len(images) // batch_size)
        for start in range(0, len(images), batch_size):
            pictures = [as_picture(image) for image in images[start : start + batch_size]]
            batch = torch.stack([transformed(transform, picture, lambda: "an image") for picture in pictures])
            found += of(batch.to(device))
    return found


@torch.no_grad()
def predictor(model: Prompted, calls: int) -> Callable[[Tensor], list[Prediction]]:
    """Class probabilities of batches of images (B, 3, H, W) on the model's device, and of none.

    Args:
        model: with classes; afterwards in evaluation mode.
        calls: how many batches of one size there are; many are captured where a GPU can.
    """
    model.compile_prompts()
    logits_of = repeated(model, model, calls)

    @torch.no_grad()
    def of(images: Tensor) -> list[Prediction]:
        return predictions(logits_of(images), model.classes) if len(images) else []

    return of


def check_classes(model: Prompted) -> None:
    """Nothing, if the model has classes.

    Raises:
        VptError: it has none.
    """
    if not model.classes:
        raise VptError("the model has no classes to choose from: name them with --labels, or set_classes([…]).")


def predictions(logits: Tensor, classes: Sequence[str]) -> list[Prediction]:
    """What logits (B, C) say of each image, its classes from the most to the least probable."""
    found = []
    for row in full_precision(logits).softmax(-1).tolist():
        scores = dict(sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1]))
        label = next(iter(scores))
        found.append(Prediction(label, scores[label], scores))
    return found


def is_one(images: Any) -> TypeGuard[ImageLike]:
    """Whether this is one image, and not a sequence or batch of them.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(images, str | Path | Image.Image):
        return True
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim < 4
    if not isinstance(images, Sequence) or isinstance(images, bytes):
        raise TypeError(f"images is a {type(images).__name__}: give a file, a picture, an array, or a list of them.")
    return False


def as_picture(image: ImageLike) -> Image.Image:
    """An image in RGB.

    Args:
        image: a file; PIL's; an array, grey (H, W) or (H, W, C) with 1, 3 or 4 channels; or a tensor, (H, W) or
            (C, H, W).
            Values are whole numbers from 0 to 255, of 16 bits to 65535, or real numbers from 0 to 1.

    Raises:
        VptError: it cannot be read, or has another shape or other values.
    """
    if isinstance(image, Image.Image):
        return picture(image)
    if isinstance(image, str | Path):
        return open_image(image)
    if isinstance(image, Tensor):
        values = image.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        array = values.movedim(0, -1).numpy() if values.ndim == 3 else values.numpy()
        expected = "(C, H, W)"
    elif isinstance(image, np.ndarray):
        array, expected = image, "(H, W, C)"
    else:
        raise VptError(f"a {type(image).__name__} is no image: give a file, PIL's picture, an array or a tensor.")
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in CHANNELS or not array.size:
        raise VptError(f"an image of shape {tuple(image.shape)} is not {expected} with C of 1, 3 or 4: arrange it so.")
    pixels = _to_bytes(array)
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """Values of any depth as 8 bits."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.floating):
        limit = 1.0
    else:
        limit = 1 if array.dtype == np.bool_ else 65535 if array.dtype == np.uint16 else 255
    if not 0 <= low <= high <= limit:
        raise VptError(
            f"an image of {array.dtype} has values from {low} to {high}, not 0 to {limit}: give it as it was before "
            "normalisation; what is preprocessed already goes through model(images)."
        )
    return np.ascontiguousarray((array.astype(np.float64) / limit * 255).round().astype(np.uint8))
