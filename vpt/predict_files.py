"""Predictions for many image files: each is decoded once, by workers, while the model is at others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vpt.errors import VptError
from vpt.images import open_image
from vpt.model import Prompted
from vpt.predict import Prediction, check_classes, predictor
from vpt.preprocessing import ImageTransform, transformed
from vpt.report.progress import Progress

BATCH = 32
MOST_WORKERS = 4
# Processes take seconds to begin, and would for a few images cost more than they save.
IMAGES_A_WORKER = 64


class ImageFiles(Dataset[tuple[int, "Tensor | str"]]):
    """Image files as a model takes them; of one that cannot be decoded the sentence about it."""

    def __init__(self, paths: Sequence[Path], transform: ImageTransform) -> None:
        self.paths = list(paths)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            path = self.paths[index]
            return index, transformed(self.transform, open_image(path), lambda: str(path))
        except VptError as error:
            return index, str(error)


def decoded(
    model: Prompted, paths: Sequence[Path], *, workers: int | None = None, title: str = "images"
) -> Iterator[tuple[list[Path], Tensor, dict[Path, str]]]:
    """Batches of image files on the model's device.

    Args:
        model: whose transform is used.
        paths: the files.
        workers: processes that decode them; by default as many as are of use.
        title: of the progress bar.

    Yields:
        The files of a batch; the images (B, 3, H, W) of those that can be decoded; and the sentences about the others.
    """
    if workers is None:
        workers = min(MOST_WORKERS, os.cpu_count() or 1, len(paths) // IMAGES_A_WORKER)
    files, device = ImageFiles(paths, model.preprocessing.transform()), next(model.parameters()).device
    batches = DataLoader(files, batch_size=BATCH, num_workers=workers, collate_fn=list)
    for batch in Progress().bar(batches, title):
        images = [image for _, image in batch if isinstance(image, Tensor)]
        broken = {paths[index]: sentence for index, sentence in batch if isinstance(sentence, str)}
        yield [paths[i] for i, _ in batch], torch.stack(images).to(device) if images else torch.empty(0), broken


def predict_files(
    model: Prompted, paths: Sequence[Path], *, workers: int | None = None
) -> Iterator[tuple[Path, Prediction | VptError]]:
    """A prediction for each file, in their order; of one that cannot be decoded the error that says so.

    Args:
        model: with classes; afterwards in evaluation mode.
        paths: image files.
        workers: processes that decode them; by default as many as are of use.

    Raises:
        VptError: the model has no classes.
    """
    check_classes(model)
    of = predictor(model, len(paths) // BATCH)
    for some, images, broken in decoded(model, paths, workers=workers):
        found = iter(of(images))
        for path in some:
            yield path, VptError(broken[path]) if path in broken else next(found)
