"""Batches, in an order and with an augmentation that seed and epoch alone decide."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from vpt.data.base import Samples
from vpt.data.cache import Cached
from vpt.data.transforms import FromAlbumentations
from vpt.preprocessing import ImageTransform


def loader(
    samples: Samples | Dataset[Any],
    transform: ImageTransform,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    workers: int = 0,
) -> DataLoader[Any]:
    """Batches of images (B, 3, H, W) and labels (B,).

    Order is a function of seed and epoch, and the augmentation of an image of seed, epoch and its index: runs
    agree bit for bit whatever the number of workers, and no two workers or epochs repeat each other. Choose
    the epoch with `loader.sampler.set_epoch`.

    Args:
        samples: or any dataset of (PIL image or tensor, label); tensors are taken as they are.
        transform: from an RGB image to a tensor.
        batch_size: images a batch; the last batch may be smaller.
        shuffle: whether to draw a new order for each epoch.
        seed: of order and augmentation; None leaves the libraries' generators alone.
        workers: processes that load; 0 loads in this one.
    """
    if isinstance(samples, Cached):
        samples, transform = samples.prepared(transform)
    dataset = Transformed(samples, transform, seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, shuffle, seed or 0),
        num_workers=workers,
        # Otherwise every pass would move the caller's own generator on.
        generator=torch.Generator().manual_seed(seed or 0),
        pin_memory=torch.cuda.is_available(),
    )


class Transformed(Dataset[tuple[Tensor, int]]):
    """Samples, or a dataset of (image, label), with a transform."""

    def __init__(self, source: Samples | Dataset[Any], transform: ImageTransform, seed: int | None) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if isinstance(self.source, Samples):
            image, label = self.source.image(index), self.source.labels[index]
        else:
            image, label = self.source[index]
        if not isinstance(image, Image.Image):
            return image, int(label)
        if self.seed is None:
            return self.transform(image), int(label)
        with seeded(mix(self.seed, self.epoch, index), self.transform):
            return self.transform(image), int(label)


class EpochSampler(Sampler[int]):
    """Every index once, in an order that is a function of seed and epoch."""

    def __init__(self, dataset: Transformed, shuffle: bool, seed: int) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next pass."""
        self.dataset.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(len(self)))
        generator = torch.Generator().manual_seed(mix(self.seed, self.dataset.epoch))
        return iter(torch.randperm(len(self), generator=generator).tolist())

    def __len__(self) -> int:
        return len(self.dataset)


@contextmanager
def seeded(seed: int, transform: ImageTransform) -> Iterator[None]:
    """Every generator that a transform may draw from, seeded, and in the main process put back afterwards.

    albumentations keeps generators of its own, which otherwise every worker would inherit in one state.
    """
    in_main = get_worker_info() is None
    if in_main:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if isinstance(transform, FromAlbumentations):
        transform.set_random_seed(seed)
    try:
        yield
    finally:
        if in_main:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def mix(*numbers: int) -> int:
    """One 32-bit seed from several numbers; near ones give seeds that have nothing in common."""
    return int(np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(1)[0])
