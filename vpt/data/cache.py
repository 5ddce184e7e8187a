"""Images decoded and resized once, kept as bytes in memory or on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vpt.data.base import Samples
from vpt.data.transforms import divided
from vpt.errors import VptError
from vpt.paths import cache_root
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress

FORMAT = 2
PIXELS, SHAPES = "pixels.bin", "shapes.npy"
# Images that are decoded ahead of the one that is written, for each core.
AHEAD = 4

Place = Literal["memory", "disk"]


class Cached(Samples):
    """Samples whose images are decoded, and resized as far as a transform always does it alike, only once.

    What a transform is given afterwards is bit for bit what it would have been given. A transform that begins with
    something random is given images of their own size, which takes the most room.

    Args:
        samples: the images.
        place: "memory", of this process; or "disk", below `vpt.paths.cache_root()`, for every later run.
    """

    def __init__(self, samples: Samples, place: Place) -> None:
        self.samples = samples
        self.labels = samples.labels
        self.classes = samples.classes
        self.place = place
        self.kept: dict[str, Kept] = {}

    def image(self, index: int) -> Image.Image:
        """Decoded from where it lies."""
        return self.samples.image(index)

    def name(self, index: int) -> str:
        """That of the samples."""
        return self.samples.name(index)

    def stamp(self, index: int) -> str | None:
        """That of the samples."""
        return self.samples.stamp(index)

    def subset(self, indices: Sequence[int]) -> Cached:
        """Those at `indices`, in this order, with a cache of their own."""
        return Cached(self.samples.subset(indices), self.place).named(self.classes)

    def relabelled(self, labels: Mapping[int, int]) -> Cached:
        """The same images with other labels, with a cache of their own."""
        return Cached(self.samples.relabelled(labels), self.place)

    def prepared(self, transform: ImageTransform) -> tuple[Samples, ImageTransform]:
        """Samples out of the cache, which is made if need be, and what is left of `transform` to be done with them.

        Raises:
            VptError: an image cannot be read, there is no room, or the images have no files to tell changes by.
        """
        steps, rest = divided(transform)
        recipe = recipe_of(steps)
        if recipe not in self.kept:
            make = _in_memory if self.place == "memory" else _on_disk
            self.kept[recipe] = make(self.samples, steps)
        return self.kept[recipe], rest


class Kept(Samples):
    """Images out of a cache.

    Args:
        samples: what was cached.
        images: each of it, (H, W, 3) of unsigned bytes.
    """

    def __init__(self, samples: Samples, images: list[np.ndarray] | OnDisk) -> None:
        self.samples = samples
        self.labels = samples.labels
        self.classes = samples.classes
        self.images = images

    def image(self, index: int) -> Image.Image:
        """The resized image."""
        return Image.fromarray(self.images[index])

    def name(self, index: int) -> str:
        """That of the samples."""
        return self.samples.name(index)

    def subset(self, indices: Sequence[int]) -> Samples:
        """Those at `indices` of what was cached, not out of the cache."""
        return self.samples.subset(indices)


class OnDisk:
    """Images in one file, one after the other, and a file of their heights and widths (N, 2).

    Raises:
        VptError: the files are not what they should be.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PIXELS
        try:
            self.shapes = np.load(folder / SHAPES)
            self.ends = np.cumsum(self.shapes.prod(1) * 3)
            if self.path.stat().st_size != self.ends[-1]:
                raise ValueError("it is cut off")
        except Exception as error:
            # A header that is damaged is read as Python, and raises whatever that makes Python say.
            raise VptError(f"the cache {folder} is damaged ({error}): delete it.") from error

    def __getitem__(self, index: int) -> np.ndarray:
        height, width = self.shapes[index].tolist()
        size = height * width * 3
        # Not a memory map, which a worker process that is not forked would be sent as a copy of the whole.
        pixels = np.fromfile(self.path, np.uint8, size, offset=int(self.ends[index]) - size)
        return pixels.reshape(height, width, 3)


def recipe_of(steps: Sequence[Any]) -> str:
    """What tells steps apart: the class of each and all that it was made with, of which its repr tells a part."""
    return repr([(f"{type(step).__module__}.{type(step).__qualname__}", _made_with(step)) for step in steps])


def _made_with(step: Any) -> list[tuple[str, Any]]:
    # `training` is of every module of torch's, and no still step looks at it.
    return sorted((name, value) for name, value in vars(step).items() if name[0] != "_" and name != "training")


def _in_memory(samples: Samples, steps: list[Any]) -> Kept:
    from psutil import virtual_memory

    _check_room(samples, steps, virtual_memory().available, "data.cache=memory", "of memory")
    return Kept(samples, list(_images(samples, steps)))


def _on_disk(samples: Samples, steps: list[Any]) -> Kept:
    root = cache_root() / "images"
    folder = root / _key(samples, steps)
    if not folder.is_dir():
        try:
            root.mkdir(parents=True, exist_ok=True)
            _check_room(samples, steps, shutil.disk_usage(root).free, "data.cache=disk", f"at {root}")
            _write(folder, samples, steps)
        except OSError as error:
            raise VptError(f"{root} cannot hold a cache ({error}): set VPT_CACHE, or data.cache=none.") from error
    return Kept(samples, OnDisk(folder))


def _write(folder: Path, samples: Samples, steps: list[Any]) -> None:
    """Make the cache `folder`, which appears whole or not at all; another process may make it at the same time."""
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        shapes = []
        with open(temporary / PIXELS, "wb") as file:
            for image in _images(samples, steps):
                file.write(image.tobytes())
                shapes.append(image.shape[:2])
        np.save(temporary / SHAPES, np.array(shapes, np.int64))
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _images(samples: Samples, steps: list[Any]) -> Iterator[np.ndarray]:
    """Every image after `steps`, (H, W, 3), in order."""
    prepare = _prepare(samples, steps)
    # PIL lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from Progress().bar(_in_order(pool, prepare, len(samples)), "caching images", total=len(samples))


def _in_order(pool: ThreadPoolExecutor, prepare: Callable[[int], np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Every image in order, few at a time: all that are decoded and not yet taken may be more than memory holds."""
    waiting: deque[Future[np.ndarray]] = deque()
    for index in range(count):
        waiting.append(pool.submit(prepare, index))
        if len(waiting) >= AHEAD * (os.cpu_count() or 1):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _prepare(samples: Samples, steps: list[Any]) -> Callable[[int], np.ndarray]:
    def prepare(index: int) -> np.ndarray:
        image = samples.image(index)
        for step in steps:
            image = step(image)
        return np.asarray(image)

    return prepare


def _check_room(samples: Samples, steps: list[Any], free: int, what: str, where: str) -> None:
    """Refuse what will not fit, from the sizes of a few images.

    Raises:
        VptError: it will not.
    """
    few = range(0, len(samples), max(1, len(samples) // 8))
    sizes = [_prepare(samples, steps)(index).size for index in few]
    needed = sum(sizes) / len(sizes) * len(samples)
    if needed > free:
        raise VptError(
            f"{what} would take {needed / 1e9:.1f} GB {where}, where {free / 1e9:.1f} are free: leave it out, or "
            "choose an augmentation that begins with a resize."
        )


def _key(samples: Samples, steps: list[Any]) -> str:
    libraries = [version(name) for name in ("pillow", "torchvision", "timm")]
    digest = hashlib.sha256(f"{FORMAT} {libraries} {recipe_of(steps)}".encode())
    for index in range(len(samples)):
        stamp = samples.stamp(index)
        if stamp is None:
            raise VptError(f"{samples.name(index)} is no file whose changes could be seen: say data.cache=memory.")
        digest.update(f"\n{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
