"""Named shifts of images: what cameras, light and compression do to them, the same at every call."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from vpt.data.base import Samples
from vpt.errors import VptError, did_you_mean

Shift = Callable[[Image.Image, np.random.Generator], Image.Image]


def _noise(image: Image.Image, random: np.random.Generator) -> Image.Image:
    values = np.asarray(image).astype(np.float64) + random.normal(scale=0.12 * 255, size=(*image.size[::-1], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _blur(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 60))


def _dark(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.4)


def _contrast(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(0.35)


def _grey(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return image.convert("L").convert("RGB")


def _jpeg(image: Image.Image, random: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=10)
    return Image.open(buffer).convert("RGB")


def _pixelate(image: Image.Image, random: np.random.Generator) -> Image.Image:
    small = image.resize([max(1, round(side * 0.35)) for side in image.size], Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


# In the manner of Hendrycks and Dietterich, ICLR 2019, at one strength each; sizes go with the image's.
SHIFTS: dict[str, Shift] = {
    "noise": _noise,
    "blur": _blur,
    "dark": _dark,
    "contrast": _contrast,
    "grey": _grey,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
}


class Shifted(Samples):
    """The same images under a shift.

    Args:
        samples: the images.
        shift: a name in `SHIFTS`.

    Raises:
        VptError: there is no such shift.
    """

    def __init__(self, samples: Samples, shift: str) -> None:
        if shift not in SHIFTS:
            raise VptError(f"there is no shift {shift!r}: {did_you_mean(shift, SHIFTS)}")
        self.samples, self.shift = samples, shift
        self.labels = samples.labels
        self.classes = samples.classes

    def image(self, index: int) -> Image.Image:
        """The shifted image."""
        return SHIFTS[self.shift](self.samples.image(index), np.random.default_rng(index))

    def name(self, index: int) -> str:
        """Its own."""
        return self.samples.name(index)

    def subset(self, indices: Sequence[int]) -> Shifted:
        """Those at `indices`; noise is drawn anew by their new places."""
        return Shifted(self.samples.subset(indices), self.shift)
