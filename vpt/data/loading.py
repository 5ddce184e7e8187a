"""Batches, in an order and with an augmentation that seed and epoch alone decide."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing import get_start_method
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from vpt.data.base import Samples
from vpt.data.cache import Cached
from vpt.data.pairs import Pairs
from vpt.data.transforms import FromAlbumentations, Twice, is_still
from vpt.errors import VptError
from vpt.preprocessing import ImageTransform, transformed


def loader(
    samples: Samples | Pairs | Dataset[Any],
    transform: ImageTransform,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    workers: int = 0,
    tokenize: Callable[[list[str]], Tensor] | None = None,
    features: Tensor | None = None,
    taught: Tensor | None = None,
    drop_last: bool = False,
) -> DataLoader[Any]:
    """Batches of images (B, 3, H, W) and labels (B,); of `Pairs` images and token ids (B, L).

    Of an image's captions one is drawn for each epoch where `shuffle` is on, and otherwise the first is taken.

    Order is a function of seed and epoch, augmentation and caption of an image of seed, epoch and its index: runs
    agree bit for bit whatever the number of workers, and no two workers or epochs repeat each other. Choose
    the epoch with `loader.sampler.set_epoch`.

    Args:
        samples: or any dataset of (PIL image or tensor, label), such as `vpt.data.given.Given`; tensors are taken as
            they are.
        transform: from an RGB image to a tensor.
        batch_size: images a batch; the last batch may be smaller.
        shuffle: whether to draw a new order for each epoch.
        seed: of order and augmentation; None leaves the libraries' generators alone.
        workers: processes that load; 0 loads in this one.
        tokenize: from captions to token ids (N, L); without it captions stay strings, B in a batch.
        features: of V views of every image of `Samples` or `Pairs`, (V, N, F), given in place of the images; each
            epoch takes the next view.
        taught: what a teacher makes of V views of every image, (V, N, T), given beside the labels; those V views are
            what epochs see in turn.
        drop_last: leave a smaller last batch out, unless it is the only one.
    """
    if isinstance(samples, Cached) and features is None:
        samples, transform = samples.prepared(transform)
    dataset = Transformed(samples, transform, seed, tokenize=tokenize, draw=shuffle, features=features, taught=taught)
    if workers:
        check_sendable(dataset)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, shuffle, seed or 0),
        num_workers=workers,
        # Otherwise every pass would move the caller's own generator on.
        generator=torch.Generator().manual_seed(seed or 0),
        drop_last=drop_last and len(dataset) >= batch_size,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate,
        worker_init_fn=partial(_begin_worker, Image.MAX_IMAGE_PIXELS) if workers else None,
    )


def check_sendable(dataset: Any) -> None:
    """Nothing, if worker processes can be given a dataset; those that are forked have it already.

    Raises:
        VptError: they cannot, as of a lambda.
    """
    if get_start_method() == "fork":
        return
    try:
        ForkingPickler.dumps(dataset)
    except (PicklingError, AttributeError, TypeError) as error:
        raise VptError(
            f"worker processes cannot be given the images with their transform ({error}): define functions at the top "
            "of a module and not as a lambda, or say workers=0."
        ) from error


class _Batch(list[Any]):
    """One that is put together already."""


def _collate(items: list[Any]) -> Any:
    """A batch, as torch makes it."""
    if isinstance(items, _Batch):
        return list(items)
    try:
        return default_collate(items)
    except RuntimeError as error:
        shapes = list(dict.fromkeys(tuple(image.shape) for image, _ in items))
        if len(shapes) < 2:
            raise
        raise VptError(f"images of one batch have the shapes {shapes[0]} and {shapes[1]}: make them alike.") from error


def _begin_worker(max_pixels: int | None, worker: int) -> None:
    """What a worker process that is not forked does not know."""
    Image.MAX_IMAGE_PIXELS = max_pixels


class Transformed(Dataset[tuple[Tensor, Any]]):
    """Samples, pairs, or a dataset of (image, label), with a transform; of pairs one caption."""

    def __init__(
        self,
        source: Samples | Pairs | Dataset[Any],
        transform: ImageTransform,
        seed: int | None,
        *,
        tokenize: Callable[[list[str]], Tensor] | None = None,
        draw: bool = False,
        features: Tensor | None = None,
        taught: Tensor | None = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.still = is_still(transform)
        self.seed = seed
        self.tokenize = tokenize
        self.draw = draw
        self.features = features
        self.taught = taught
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image: Any
        target: Any
        if isinstance(self.source, Pairs | Samples):
            target = self._target(self.source, index)
            if self.features is not None:
                return self.features[self.epoch % len(self.features), index], target
            image = self.source.image(index)
        else:
            image, target = self.source[index]
        if self.taught is not None:
            target = target, self.taught[self._view, index]
        return (self._transformed(image, index) if isinstance(image, Image.Image) else image), target

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """What torch's loader asks for: features of a whole batch are picked at once, which takes no time for each."""
        if self.features is None or not isinstance(self.source, Pairs | Samples):
            return [self[index] for index in indices]
        targets = default_collate([self._target(self.source, index) for index in indices])
        return _Batch([self.features[self.epoch % len(self.features)][indices], targets])

    @property
    def _view(self) -> int:
        """The epoch, or the view of it that was computed once."""
        return self.epoch if self.taught is None else self.epoch % len(self.taught)

    def _transformed(self, image: Image.Image, index: int) -> Tensor:
        # Seeding takes longer than to normalise an image out of the cache.
        still = self.seed is None or self.still
        with nullcontext() if still else seeded(mix(self.seed or 0, self._view, index), self.transform):
            return transformed(self.transform, image, lambda: self._name(index))

    def _name(self, index: int) -> str:
        return self.source.name(index) if isinstance(self.source, Pairs | Samples) else f"item {index}"

    def _target(self, source: Pairs | Samples, index: int) -> int | str | Tensor:
        if isinstance(source, Samples):
            return source.labels[index]
        captions = source.captions[index]
        # The further number keeps the draw apart from that of the augmentation.
        drawn = mix(self.seed or 0, self.epoch, index, 1) % len(captions) if self.draw else 0
        return self.tokenize([captions[drawn]])[0] if self.tokenize else captions[drawn]


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
def seeded(seed: int, transform: ImageTransform | None) -> Iterator[None]:
    """Every generator that a transform may draw from, seeded, and in the main process put back afterwards.

    albumentations keeps generators of its own, which otherwise every worker would inherit in one state.
    """
    in_main = get_worker_info() is None
    if in_main:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    inner = transform.transform if isinstance(transform, Twice) else transform
    if isinstance(inner, FromAlbumentations):
        inner.set_random_seed(seed)
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
