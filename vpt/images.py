"""Image files of every kind, read as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vpt.errors import VptError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


def open_image(path: str | Path) -> Image.Image:
    """The image in a file, upright and in RGB.

    Raises:
        VptError: the file is missing, is no image, or is cut off.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except FileNotFoundError as error:
        raise VptError(f"there is no image {str(path)!r}: correct the path.") from error
    except UnidentifiedImageError as error:
        raise VptError(f"{path} is no image that can be read: replace or remove it.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VptError(f"{path} cannot be decoded ({error}): replace or remove it.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB: turned as its EXIF says, 16 bits scaled to 8, transparency laid over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """One channel as 8-bit grey: 16 bits by their range, anything else by its own; what is not finite is 0."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    low, high = 0.0, 65535.0
    if image.mode == "F" or values.min() < 0 or values.max() > high:
        low, high = values.min(), values.max()
    grey = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(grey.round().astype(np.uint8))


def find_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, in order of name; hidden files and folders are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
