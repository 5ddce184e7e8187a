"""Images with captions, and a data set of them in three splits."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from vpt.data.base import Files, Samples
from vpt.errors import VptError
from vpt.images import open_image


class Pairs(ABC):
    """Images with one or more captions each, decoded when asked for.

    Attributes:
        captions: of each image, in the order of its source.
    """

    captions: list[tuple[str, ...]]

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image in RGB.

        Raises:
            VptError: it cannot be read.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """Where the image comes from, for messages and records; the same image has the same name."""

    @abstractmethod
    def subset(self, indices: Sequence[int]) -> Pairs:
        """Those at `indices`, in this order; an index may come more than once."""

    def stored(self, index: int) -> bool:
        """Whether the image is decoded from a file, which may be broken."""
        return False

    def file(self, index: int) -> Path | None:
        """The image's own file; None where it has none."""
        return None

    def __len__(self) -> int:
        return len(self.captions)


class FilePairs(Pairs):
    """Image files with captions."""

    def __init__(self, paths: Sequence[Path], captions: Sequence[Sequence[str]]) -> None:
        self.paths = list(paths)
        self.captions = [tuple(of_image) for of_image in captions]

    def image(self, index: int) -> Image.Image:
        """Decoded from its file."""
        return open_image(self.paths[index])

    def name(self, index: int) -> str:
        """Its path."""
        return str(self.paths[index])

    def subset(self, indices: Sequence[int]) -> FilePairs:
        """Those at `indices`, in this order."""
        return FilePairs([self.paths[i] for i in indices], [self.captions[i] for i in indices])

    def stored(self, index: int) -> bool:
        """Always."""
        return True

    def file(self, index: int) -> Path:
        """Its path."""
        return self.paths[index]


class SamplePairs(Pairs):
    """Labelled images of any kind, in memory (`Arrays`) or not, with captions."""

    def __init__(self, samples: Samples, captions: Sequence[Sequence[str]]) -> None:
        self.samples = samples
        self.captions = [tuple(of_image) for of_image in captions]

    def image(self, index: int) -> Image.Image:
        """As the labelled set gives it."""
        return self.samples.image(index)

    def name(self, index: int) -> str:
        """As the labelled set calls it."""
        return self.samples.name(index)

    def subset(self, indices: Sequence[int]) -> SamplePairs:
        """Those at `indices`, in this order."""
        return SamplePairs(self.samples.subset(indices), [self.captions[i] for i in indices])

    def stored(self, index: int) -> bool:
        """As the labelled set says."""
        return self.samples.stored(index)

    def file(self, index: int) -> Path | None:
        """As the labelled set says."""
        return self.samples.file(index)


class JoinedPairs(Pairs):
    """Several `Pairs` one after the other."""

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(len(part) for part in parts))
        self.captions = [of_image for part in parts for of_image in part.captions]

    def image(self, index: int) -> Image.Image:
        """As its part gives it."""
        part, i = self._place(index)
        return self.parts[part].image(i)

    def name(self, index: int) -> str:
        """As its part calls it."""
        part, i = self._place(index)
        return self.parts[part].name(i)

    def subset(self, indices: Sequence[int]) -> JoinedPairs:
        """Those at `indices`, in this order: neighbours of the same part stay together."""
        runs: list[tuple[int, list[int]]] = []
        for part, i in map(self._place, indices):
            if not runs or runs[-1][0] != part:
                runs.append((part, []))
            runs[-1][1].append(i)
        return JoinedPairs([self.parts[part].subset(within) for part, within in runs])

    def stored(self, index: int) -> bool:
        """As its part says."""
        part, i = self._place(index)
        return self.parts[part].stored(i)

    def file(self, index: int) -> Path | None:
        """As its part says."""
        part, i = self._place(index)
        return self.parts[part].file(i)

    def _place(self, index: int) -> tuple[int, int]:
        part = bisect_right(self.ends, index)
        return part, index - (self.ends[part - 1] if part else 0)


@dataclass(frozen=True)
class PairSet:
    """A named data set of images and captions. Models are selected on `val`, never on `test`.

    Attributes:
        name: as asked for.
        train: what is trained on; empty where the data are for evaluation only.
        val: what is selected on; None where nothing was set aside.
        test: what is reported; None where there is none.
        skipped: names of images left out because they could not be decoded or had no caption.
        empty: how many empty captions were left out.
        pool: as `DataSet` has it; of captions none are drawn.
    """

    name: str
    train: Pairs
    val: Pairs | None = None
    test: Pairs | None = None
    skipped: tuple[str, ...] = field(default=(), repr=False)
    empty: int = 0
    pool: int = field(default=0, repr=False)

    def splits(self) -> dict[str, Pairs]:
        """The splits that there are, by name."""
        every = {"train": self.train, "val": self.val, "test": self.test}
        return {name: pairs for name, pairs in every.items() if pairs is not None and len(pairs)}

    def keep(self, indices: Mapping[str, Sequence[int]]) -> PairSet:
        """Of each split that is named only the images at its indices, in this order."""
        parts: dict[str, Any] = {split: self.splits()[split].subset(chosen) for split, chosen in indices.items()}
        return replace(self, **parts)

    def facts(self) -> dict[str, Any]:
        """What is recorded with a run: sizes, and a digest of the names and captions of each split."""
        splits = self.splits()
        return {
            "name": self.name,
            "sizes": {name: len(pairs) for name, pairs in splits.items()},
            "captions": {name: sum(map(len, pairs.captions)) for name, pairs in splits.items()},
            "digests": {name: _digest(pairs) for name, pairs in splits.items()},
            "skipped": list(self.skipped),
            "empty": self.empty,
        }


def class_captions(
    samples: Samples, classes: Sequence[str], templates: Sequence[str], *, where: str = "data.templates"
) -> Pairs:
    """Labelled images, each with its class's name put into every one of `templates`; "_" becomes a space.

    Raises:
        VptError: there is no template, or one without exactly one {}.
    """
    if not templates:
        raise VptError(f"{where} is empty: give a sentence with {{}} for the class's name.")
    for template in templates:
        if template.count("{}") != 1:
            raise VptError(f"{where} has {template!r}: write one {{}} where the class's name goes.")
    names = [name.replace("_", " ") for name in classes]
    of_class = [tuple(template.replace("{}", name) for template in templates) for name in names]
    captions = [of_class[label] for label in samples.labels]
    return FilePairs(samples.paths, captions) if isinstance(samples, Files) else SamplePairs(samples, captions)


def _digest(pairs: Pairs) -> str:
    """Of names and captions; of files the last two parts of the path, so that a data set may be moved."""
    digest = hashlib.sha256()
    for index, captions in enumerate(pairs.captions):
        name = "/".join(Path(pairs.name(index)).parts[-2:])
        digest.update("\0".join([name, *captions, ""]).encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
