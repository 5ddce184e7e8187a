"""Labelled images, and a data set of them in three splits."""

from __future__ import annotations

import hashlib
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from vpt.errors import VptError
from vpt.images import open_image

# The label of an image that has none, which a method that looks at no label may learn from.
NO_LABEL = -1


class Samples(ABC):
    """Labelled images, decoded when asked for; also a dataset of (image, label), as torch's are.

    Attributes:
        labels: index of each image's class, or `NO_LABEL`.
        classes: names of the classes, in the order of the labels; empty where they are not known.
    """

    labels: list[int]
    classes: tuple[str, ...] = ()

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image in RGB.

        Raises:
            VptError: it cannot be read.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Where the image comes from, for messages and records."""

    @abstractmethod
    def subset(self, indices: Sequence[int]) -> Samples:
        """Those at `indices`, in this order."""

    def stamp(self, index: int) -> str | None:
        """What is another when the image is; None where that cannot be known without reading it."""
        return None

    def stored(self, index: int) -> bool:
        """Whether the image is decoded from a file, which may be broken."""
        return False

    def file(self, index: int) -> Path | None:
        """The image's own file; None where it has none."""
        return None

    def relabelled(self, labels: Mapping[int, int]) -> Samples:
        """The same images, a label y as `labels[y]`, whose names are no longer known."""
        samples = self.subset(range(len(self)))
        samples.labels = [label if label == NO_LABEL else labels[label] for label in self.labels]
        samples.classes = ()
        return samples

    def named(self, classes: Sequence[str]) -> Self:
        """These samples, which know the names of their classes from now on."""
        self.classes = tuple(classes)
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index {place} is out of range: there are {len(self)} images.")
        return self.image(place % len(self)), self.labels[place]


class Files(Samples):
    """Image files."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.paths = list(paths)
        self.labels = list(labels)

    def image(self, index: int) -> Image.Image:
        """Decoded from its file."""
        return open_image(self.paths[index])

    def name(self, index: int) -> str:
        """Its path."""
        return str(self.paths[index])

    def stamp(self, index: int) -> str:
        """Its path, size and time of last change.

        Raises:
            VptError: the file is missing.
        """
        path = self.paths[index]
        try:
            facts = path.stat()
        except OSError as error:
            raise VptError(f"there is no image {str(path)!r}: correct the path.") from error
        return f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns}"

    def subset(self, indices: Sequence[int]) -> Files:
        """Those at `indices`, in this order."""
        return Files([self.paths[i] for i in indices], [self.labels[i] for i in indices]).named(self.classes)

    def stored(self, index: int) -> bool:
        """Always."""
        return True

    def file(self, index: int) -> Path:
        """Its path."""
        return self.paths[index]


class Arrays(Samples):
    """Images in memory: (N, H, W, 3) of unsigned bytes."""

    def __init__(self, images: np.ndarray, labels: Sequence[int], title: str, rows: Sequence[int] | None = None):
        self.images = images
        self.labels = list(labels)
        self.title = title
        self.rows = list(rows) if rows is not None else list(range(len(labels)))

    def image(self, index: int) -> Image.Image:
        """As PIL's image."""
        return Image.fromarray(self.images[self.rows[index]])

    def name(self, index: int) -> str:
        """Its row, e.g. "digits[17]"."""
        return f"{self.title}[{self.rows[index]}]"

    def subset(self, indices: Sequence[int]) -> Arrays:
        """Those at `indices`, in this order."""
        rows = [self.rows[i] for i in indices]
        return Arrays(self.images, [self.labels[i] for i in indices], self.title, rows).named(self.classes)


@dataclass(frozen=True)
class DataSet:
    """A named data set. Models are selected on `val`, never on `test`.

    Attributes:
        name: as asked for.
        classes: names, in the order of the labels.
        train: what is trained on; empty where a set is for testing only.
        val: what is selected on; None where nothing was set aside.
        test: what is reported; None where there is none.
        templates: sentences for class names, each with one {}.
        groups: parts of `test` that are also reported each by itself, such as its domains: name and indices.
        skipped: names of files left out because they could not be decoded.
        pool: how many images there were before some were drawn; 0 where none were.
        unlabelled: images without labels, which a method that looks at none learns from beside `train`.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    val: Samples | None = None
    test: Samples | None = None
    templates: tuple[str, ...] = ("a photo of a {}.",)
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict, repr=False)
    skipped: tuple[str, ...] = field(default=(), repr=False)
    pool: int = field(default=0, repr=False)
    unlabelled: Samples | None = None

    def __post_init__(self) -> None:
        for samples in (*self.splits().values(), self.unlabelled):
            if samples is not None:
                samples.named(self.classes)

    def splits(self) -> dict[str, Samples]:
        """The splits that there are, by name; what has no labels is none of them."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: samples for name, samples in every.items() if samples is not None and len(samples)}

    def parts(self) -> dict[str, Samples]:
        """The splits, and the images without labels where there are some."""
        return self.splits() | ({} if self.unlabelled is None else {"unlabelled": self.unlabelled})

    def keep(self, indices: Mapping[str, Sequence[int]]) -> DataSet:
        """Of each split that is named only the images at its indices, in this order; test groups follow."""
        parts: dict[str, Any] = {split: self.splits()[split].subset(chosen) for split, chosen in indices.items()}
        if "test" in indices:
            places = {old: new for new, old in enumerate(indices["test"])}
            groups = {name: [places[i] for i in members if i in places] for name, members in self.groups.items()}
            parts["groups"] = {name: members for name, members in groups.items() if members}
        return replace(self, **parts)

    def with_classes(self, labels: Sequence[int]) -> DataSet:
        """Only the classes at `labels` and their images, in every split, numbered anew from 0 in this order."""
        new = {old: label for label, old in enumerate(labels)}
        chosen = {split: [i for i, y in enumerate(part.labels) if y in new] for split, part in self.splits().items()}
        kept = self.keep(chosen)
        parts: dict[str, Any] = {split: samples.relabelled(new) for split, samples in kept.splits().items()}
        return replace(kept, classes=tuple(self.classes[label] for label in labels), **parts)

    def facts(self) -> dict[str, Any]:
        """What is recorded with a run: sizes, and a digest of the names and labels of each split."""
        sizes = {name: len(samples) for name, samples in self.parts().items()}
        digests = {name: _digest(samples) for name, samples in self.parts().items()}
        return {
            "name": self.name,
            "num_classes": len(self.classes),
            "sizes": sizes,
            "digests": digests,
            "groups": {name: len(members) for name, members in self.groups.items()},
            "skipped": list(self.skipped),
        }


def _digest(samples: Samples) -> str:
    """Of names and labels; of files the last two parts of the path, so that a data set may be moved."""
    digest = hashlib.sha256()
    for index, label in enumerate(samples.labels):
        name = "/".join(Path(samples.name(index)).parts[-2:])
        digest.update(f"{name} {label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
