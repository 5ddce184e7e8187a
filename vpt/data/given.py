"""Data sets and loaders that people bring: checked as folders are, before any work, and image by image."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from vpt.data.aligned import aligned
from vpt.data.base import NO_LABEL, DataSet, Samples
from vpt.data.by_name import ByName
from vpt.data.loading import seeded
from vpt.data.pairs import Pairs, PairSet
from vpt.data.transforms import check_normalised
from vpt.errors import VptError
from vpt.images import picture, to_rgb
from vpt.preprocessing import Preprocessing
from vpt.report.notes import tell

# What the two parts of an item are called in data sets of dictionaries.
IMAGE_KEYS = ("image", "img", "pixel_values", "images")
LABEL_KEYS = ("label", "labels", "target", "class")


def checked_source(
    data: Any,
    classes: Sequence[str],
    *,
    what: str = "data",
    by_number: bool = False,
    unlabelled: bool = False,
    preprocessing: Preprocessing | None = None,
) -> Any:
    """`data` with labels that count `classes`, by name where it tells names.

    Args:
        data: `Samples`, `Pairs`, a dataset of (image, label), or a loader of (images, labels).
        classes: names of the model's classes.
        what: which argument it is, for errors.
        by_number: as in `vpt.data.aligned.aligned`.
        unlabelled: likewise; also of a dataset of one's own, whose label is then `NO_LABEL`, -1.
        preprocessing: of the backbone, that tensors are to have gone through; those that seem not to have are told.

    Raises:
        VptError: it is none of these, has no images, has classes that the model does not know, its transform is known
            to leave pixels from 0 to 1 for a backbone that sees others, or there are fewer than two classes to choose
            among.
    """
    if isinstance(data, Pairs):
        if not len(data):
            raise VptError(f"{what} has no images.")
        return data
    if isinstance(data, Given):
        return data
    if isinstance(data, DataSet | PairSet):
        raise VptError(f"{what} is a whole data set: give one of its splits, such as data.train.")
    if len(classes) < 2:
        raise VptError(f"the model has {len(classes)} classes, and labels choose among 2 or more: name them.")
    if preprocessing is not None:
        for transform in _transforms(data):
            check_normalised(transform, preprocessing, f"the transform of {what}")
    if isinstance(data, DataLoader):
        return _checked_loader(data, classes, what, by_number)
    if isinstance(data, IterableDataset | Mapping) or not isinstance(data, Sized):
        raise VptError(
            f"{what} is a {type(data).__name__}, whose items have no numbers: give `Samples`, or a dataset or a list "
            "of (image, label)."
        )
    if not len(data):
        raise VptError(f"{what} has no images.")
    if isinstance(data, Samples):
        return aligned(data, classes, by_number=by_number, unlabelled=unlabelled)
    given = Given(data, classes, by_number=by_number, unlabelled=unlabelled)
    # What is wrong with every item is known before anything is begun; no draw of the dataset's own is used up.
    with seeded(0, None):
        image, _ = given[0]
    if preprocessing is not None and isinstance(image, Tensor):
        _tell_raw(image, preprocessing, what)
    return given


class Given:
    """A dataset of one's own, whose items are checked when asked for: images in RGB, labels that count the classes.

    Args:
        source: of (image, label), or of dictionaries of the two.
        classes: names of the model's classes; a dataset that tells names in `classes`, as torchvision's do, is taken
            by name, and so is each of several that are put together.
        by_number: as in `vpt.data.aligned.aligned`.
        unlabelled: likewise.
    """

    def __init__(
        self, source: Any, classes: Sequence[str], *, by_number: bool = False, unlabelled: bool = False
    ) -> None:
        self.source = source
        self.unlabelled = unlabelled
        self.count = len(classes)
        self.by_name = ByName(source, classes, by_number=by_number)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, int]:
        image, label = pair_of(self.source[index], f"item {index}")
        number = label_of(label, f"item {index}")
        if self.unlabelled and number == NO_LABEL:
            return picture_of(image, f"item {index}"), number
        places = self.by_name.of(index)
        number = number if places is None else places.get(number, -1)
        if not 0 <= number < self.count:
            raise VptError(f"item {index} has the label {label}: labels go from 0 to {self.count - 1}.")
        return picture_of(image, f"item {index}"), number


def pair_of(item: Any, place: str) -> tuple[Any, Any]:
    """Image and label of an item, or images and labels of a batch.

    Raises:
        VptError: it is no pair, and no dictionary of one.
    """
    if isinstance(item, Mapping):
        image = next((key for key in IMAGE_KEYS if key in item), None)
        label = next((key for key in LABEL_KEYS if key in item), None)
        if image is None or label is None:
            keys = ", ".join(map(repr, item))
            raise VptError(f"{place} is a dictionary of {keys}: give {{'image': …, 'label': …}}, or (image, label).")
        return item[image], item[label]
    if not isinstance(item, tuple | list) or len(item) != 2:
        count = f" of {len(item)} parts" if isinstance(item, tuple | list) else ""
        raise VptError(f"{place} is a {type(item).__name__}{count}: give (image, label).")
    return item[0], item[1]


def label_of(label: Any, place: str) -> int:
    """A label as a number.

    Raises:
        VptError: it is no whole number.
    """
    try:
        return operator.index(label)
    except (TypeError, ValueError, RuntimeError) as error:
        # RuntimeError and ValueError come of tensors and arrays of several numbers, such as one-hot labels.
        shown = repr(label) if isinstance(label, str | float | None) else f"of a {type(label).__name__}"
        raise VptError(f"{place} has the label {shown}: give the number of its class, from 0 on.") from error


def picture_of(image: Any, place: str) -> Image.Image | Tensor:
    """An image in RGB; a tensor is what the model is to be given, and stays as it is.

    Raises:
        VptError: it is no image, or no tensor that a model can be given.
    """
    if isinstance(image, Image.Image):
        return picture(image)
    if isinstance(image, np.ndarray):
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
            raise VptError(
                f"{place} is an array {image.shape} of {image.dtype}: give unsigned bytes (H, W) or (H, W, 3), or a "
                "tensor."
            )
        return to_rgb(Image.fromarray(image[..., 0] if image.ndim == 3 and channels == 1 else image))
    if isinstance(image, Tensor):
        return checked_pixels(image, place, ndim=3)
    raise VptError(f"{place} has a {type(image).__name__} for an image: give PIL's, an array, or a tensor (3, H, W).")


def checked_pixels(images: Tensor, place: str, *, ndim: int) -> Tensor:
    """Preprocessed images, (3, H, W) or, of a batch, (B, 3, H, W).

    Raises:
        VptError: another shape, or numbers that are not real or not finite.
    """
    wanted = "(3, H, W)" if ndim == 3 else "(B, 3, H, W)"
    if not images.is_floating_point():
        raise VptError(f"{place} has pixels of {images.dtype}: preprocess them, or give PIL images in their place.")
    if images.ndim != ndim:
        raise VptError(f"{place} has a tensor of shape {tuple(images.shape)} for images: give {wanted}.")
    if not bool(images.isfinite().all()):
        raise VptError(f"{place} has pixels that are nan or infinite: mend the image, or what transforms it.")
    return images


class CheckedBatches:
    """What a loader's own `collate_fn` makes, checked.

    Args:
        collate: from items to a batch.
        count: of classes.
        places: where the data's labels are among the classes; None where they are the same.
    """

    def __init__(self, collate: Callable[[Any], Any], count: int, places: Mapping[int, int] | None) -> None:
        self.collate, self.count, self.places = collate, count, places

    def __call__(self, items: Any) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and labels (B,)."""
        try:
            batch = self.collate(items)
        except (TypeError, RuntimeError) as error:
            raise VptError(
                f"the loader cannot make a batch of its items ({error}): let its dataset end in tensors of one size."
            ) from error
        images, labels = pair_of(batch, "a batch of the loader")
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            kinds = f"{type(images).__name__} and {type(labels).__name__}"
            raise VptError(f"a batch of the loader is {kinds}: give tensors of images (B, 3, H, W) and labels (B,).")
        checked_pixels(images, "a batch of the loader", ndim=4)
        if labels.is_floating_point() or labels.numel() != len(images):
            told = f"{tuple(labels.shape)} of {labels.dtype}"
            raise VptError(f"a batch of the loader has labels {told}: give whole numbers (B,), one for each image.")
        labels = labels.reshape(-1).long()
        if self.places is not None:
            labels = torch.tensor([self.places.get(label, -1) for label in labels.tolist()])
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.count:
            odd = int(labels.max()) if int(labels.max()) >= self.count else int(labels.min())
            raise VptError(f"a batch of the loader has the label {odd}: labels go from 0 to {self.count - 1}.")
        return images, labels


def _checked_loader(data: DataLoader[Any], classes: Sequence[str], what: str, by_number: bool) -> DataLoader[Any]:
    """The loader, whose batches are checked; the one that was given stays as it is."""
    if isinstance(data.collate_fn, CheckedBatches):
        return data
    if isinstance(data.dataset, IterableDataset):
        raise VptError(f"{what} is a loader of a stream, which has no length: give one of a dataset with a length.")
    if not len(data):
        raise VptError(f"{what} is a loader that has no batches: give it images, or drop_last=False.")
    places = ByName(data.dataset, classes, by_number=by_number).of_all()
    loader = copy.copy(data)
    loader.collate_fn = CheckedBatches(data.collate_fn, len(classes), places)
    return loader


def _transforms(data: Any) -> list[Any]:
    """What a dataset, or a loader's, does with its images, as torchvision's datasets tell it."""
    source = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(source, ConcatDataset):
        return [transform for part in source.datasets for transform in _transforms(part)]
    if isinstance(source, Subset):
        return _transforms(source.dataset)
    transform = getattr(source, "transform", None)
    return [transform] if callable(transform) else []


def _tell_raw(image: Tensor, preprocessing: Preprocessing, what: str) -> None:
    """Say that pixels look as they do before they are normalised, where the backbone sees others."""
    low, high = float(image.min()), float(image.max())
    if low < 0 or low == high or (set(preprocessing.mean) == {0.0} and set(preprocessing.std) == {1.0}):
        return
    if high <= 1 or high > 20:
        tell(
            f"the pixels of {what}'s first image go from {low:.3g} to {high:.3g}, as before they are normalised, and "
            "the backbone was trained on normalised ones: give PIL images, or subtract "
            f"{preprocessing.mean} and divide by {preprocessing.std}."
        )
