"""Image files of every kind, read as 8-bit RGB."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from vpt.errors import VptError
from vpt.report.notes import first_of, tell

# Read by their content, whatever a file is called. Others of PIL's are left out: EPS starts a program.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What files of these formats are called.
IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
        ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
# What pictures are called that are not read: of telephones, cameras, printers, drawing and medicine.
UNREAD = frozenset(
    {
        "", ".ai", ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".ico",
        ".jxl", ".nef", ".orf", ".pdf", ".ps", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga",
    }
)  # fmt: skip
# What systems and archives leave in a folder, beside hidden files.
OF_SYSTEMS = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
)
# Bits a channel that sensors and formats have; those of 10, 12 and 14 come in files of 16.
DEPTHS = (8, 10, 12, 14, 16)
# For PIL's orders of bytes, little, big and the machine's own, one that is the other.
OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
# Most models resize the short side to less than so many pixels, which makes a strip of a few pixels' width huge.
SHORT_SIDE = 512

# PIL warns above its limit and refuses above twice as many; here the limit is one.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Found(NamedTuple):
    """Files below a folder, each in order of name: images by their suffix, and what else is there."""

    images: list[Path]
    others: list[Path]


def limit_pixels(count: int) -> None:
    """Decode images of up to so many pixels from now on: PIL's own limit, which is 89,478,485 where nobody changed it.

    Raises:
        VptError: it is not above 0.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise VptError(f"max_pixels={count!r} is no number of pixels: give 1 or more.")
    Image.MAX_IMAGE_PIXELS = count


def open_image(path: str | Path) -> Image.Image:
    """The image in a file, upright and in RGB.

    Raises:
        VptError: the file is missing, is no image of `FORMATS`, is cut off, or has more pixels than `limit_pixels`.
    """
    if not os.path.isfile(path):
        wrong = "is no file" if os.path.exists(path) else "does not exist"
        linked = ": it is a link that leads nowhere" if os.path.islink(path) and wrong == "does not exist" else ""
        raise VptError(f"there is no image {str(path)!r}, which {wrong}{linked}: correct the path.")
    return decode(path, str(path))


def decode(source: str | Path | BinaryIO, name: str) -> Image.Image:
    """The image in a file, or in the bytes of one, upright and in RGB.

    Args:
        source: a path, or an open file.
        name: of it, for errors.

    Raises:
        VptError: as `open_image`.
    """
    try:
        with Image.open(source, formats=_formats()) as image:
            _check_size(image, name)
            _spread(image, source)
            return to_rgb(image)
    except UnidentifiedImageError as error:
        raise VptError(f"{name} is no image that can be read: replace or remove it.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"\d+", str(error))
        raise _too_large(name, f"{int(count[0]):,} pixels" if count else "too many pixels") from error
    except VptError:
        raise
    except Exception as error:
        # What decoders raise of broken files is anything: struct.error, IndexError, KeyError, EOFError, …
        told = str(error) or type(error).__name__
        raise VptError(f"{name} cannot be decoded ({told}): replace or remove it.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB: turned as its EXIF says, other depths scaled to 8 bits, transparency laid over white.

    PIL leaves the EXIF of a file with what is made of its picture, also where somebody has turned that. It is not
    turned again where EXIF tells the size that it had, and that size lies across.
    """
    if not _turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def picture(image: Image.Image) -> Image.Image:
    """A picture that somebody has in memory, as `to_rgb` makes it; once it is said that EXIF turns some."""
    own = isinstance(image, ImageFile) or "exif" not in image.info or _turned(image)
    if not own and image.getexif().get(ExifTags.Base.Orientation) in range(2, 9) and parent_process() is None:
        _tell_turning()
    return to_rgb(image)


@cache
def _tell_turning() -> None:
    tell(
        "pictures in memory are turned as their EXIF says: where you have turned one yourself, take that out "
        "(PIL.ImageOps.exif_transpose does both)."
    )


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is hidden, or one that systems leave behind."""
    return path.name.startswith(".") or path.name.lower() in OF_SYSTEMS


def find_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, in order of name; pictures that are not read are counted and named.

    Raises:
        VptError: a folder that cannot be read.
    """
    found = find_files([folder])
    tell_others([path for path in found.others if path.suffix.lower() in UNREAD], folder)
    return found.images


def find_files(folders: Sequence[Path]) -> Found:
    """What lies below folders and the folders linked there; hidden files and those of a system are passed over.

    A link that leads nowhere counts as the image that its name says: that it is missing is told when it is read.

    Raises:
        VptError: a folder that cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    met: set[tuple[int, int]] = set()
    for path in sorted(path for folder in folders for path in _walk(folder, met)):
        there = os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))
        (images if path.suffix.lower() in IMAGE_SUFFIXES and there else others).append(path)
    return Found(images, others)


def tell_others(others: Sequence[Path], folder: Path) -> None:
    """Say which files of a folder are not read as images, if there are any."""
    if not others:
        return
    suffixes = [path.suffix.lower() or "no suffix" for path in others]
    kinds = ", ".join(f"{suffixes.count(suffix)} with {suffix}" for suffix in sorted(set(suffixes)))
    remedy = "; .heic of telephones is not read: convert it to .jpg" if ".heic" in suffixes else ""
    tell(f"{len(others)} files of {folder} are not read as images ({kinds}), first {first_of(others, 3)}{remedy}.")


def _walk(folder: Path, met: set[tuple[int, int]]) -> Iterator[Path]:
    """Files below a folder and the folders linked there; one that has been `met`, by whichever way, is passed over."""
    try:
        facts = folder.stat()
        # Folders that lie here before those that are linked, so that a file is called by the place where it lies.
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_symlink(), entry))
    except OSError as error:
        raise VptError(f"the folder {folder} cannot be read ({error.strerror}): correct its rights.") from error
    if (facts.st_dev, facts.st_ino) in met:
        return
    met.add((facts.st_dev, facts.st_ino))
    for entry in entries:
        if is_hidden(entry):
            continue
        # pathlib's own raises an error of what may not be looked at.
        if os.path.isdir(entry):
            yield from _walk(entry, met)
        else:
            yield entry


def _turned(image: Image.Image) -> bool:
    """Whether a picture in memory lies across the size that its EXIF tells: somebody has turned it by a quarter."""
    if isinstance(image, ImageFile) or "exif" not in image.info:
        return False
    try:
        exif = image.getexif()
        told = exif.get_ifd(ExifTags.IFD.Exif)
        width, height = told[ExifTags.Base.ExifImageWidth], told[ExifTags.Base.ExifImageHeight]
        across = image.width * width, image.height * height
        along = image.width * height, image.height * width
        return exif[ExifTags.Base.Orientation] in range(5, 9) and _near(*across) and not _near(*along)
    except Exception:
        # EXIF is written by anybody: what it does not say, or says in no number, says nothing.
        return False


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 0.02 * max(one, other)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this PIL was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image, name: str) -> None:
    """Refuse what would take too much memory, before it is decoded."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    width, height = image.size
    if width * height > limit:
        raise _too_large(name, f"{width * height:,} pixels")
    ratio = max(image.size) // max(min(image.size), 1)
    resized = SHORT_SIDE**2 * ratio
    if ratio > 16 and resized > limit:
        shape = f"{width:,} × {height:,} pixels, which become {resized:,} where the short side is made {SHORT_SIDE}"
        raise _too_large(name, shape)


def _too_large(name: str, shape: str) -> VptError:
    return VptError(
        f"{name} has {shape}, and no image of more than {Image.MAX_IMAGE_PIXELS:,} is decoded: make it smaller, or "
        "give a larger number as data.max_pixels, --max-pixels or vpt.images.limit_pixels."
    )


def _spread(image: Image.Image, source: str | Path | BinaryIO) -> None:
    """Read anew what PIL misreads of a file's bits, in the image itself, which so keeps what its file says besides.

    Of 16 bits it keeps the upper 8, which are all dark where fewer than 16 are used, and looks for the transparent
    colour in the wrong ones; of 2 or 4 bits of grey it spreads the pixels and not the transparent one.
    """
    kind = _raw_mode(image)
    clear = image.info.get("transparency")
    if image.mode == "L" and kind in ("L;2", "L;4") and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // (2 ** int(kind[-1]) - 1)
    if ";16" not in kind or image.mode not in ("RGB", "RGBA", "LA"):
        return
    upper = np.asarray(image).astype(np.uint16)
    colours = 1 if image.mode == "LA" else 3
    dark = upper[..., :colours].max() < 2 ** (DEPTHS[-2] - 8)
    if not dark and clear is None:
        return
    values = 256 * upper + _lower(source, kind)
    if dark:
        eight = np.concatenate([_scaled(values[..., :colours]), upper[..., colours:]], -1)
        image.paste(Image.fromarray(eight.astype(np.uint8), image.mode))
    if clear is not None:
        image.putalpha(_opaque((values != clear).any(-1)))
        del image.info["transparency"]


def _lower(source: str | Path | BinaryIO, kind: str) -> np.ndarray:
    """The lower bytes of 16 bits: what PIL reads where the order of bytes is said to be the other way round."""
    with Image.open(source, formats=_formats()) as again:
        swapped = kind[:-1] + OTHER_ORDER[kind[-1]]
        again.tile = [tile._replace(args=_with_mode(tile.args, swapped)) for tile in again.tile]
        return np.asarray(again)


def _opaque(where: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(where, 255, 0).astype(np.uint8))


def _raw_mode(image: Image.Image) -> str:
    """How the bytes of an image file that is not decoded yet are laid out, e.g. "RGB;16B"."""
    arguments = image.tile[0].args if isinstance(image, ImageFile) and image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _with_mode(arguments: Any, mode: str) -> Any:
    return (mode, *arguments[1:]) if isinstance(arguments, tuple) else mode


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """One channel as 8-bit grey: whole numbers by their bits, anything else by its range; what is not finite is 0."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    if image.mode == "F" or values.min() < 0 or values.max() > 2 ** DEPTHS[-1] - 1:
        grey = (values - values.min()) / max(values.max() - values.min(), 1e-12) * 255
        return Image.fromarray(grey.round().astype(np.uint8))
    scaled = Image.fromarray(_scaled(values).astype(np.uint8))
    if isinstance(image.info.get("transparency"), int):
        scaled.putalpha(_opaque(values != image.info["transparency"]))
    return scaled


def _scaled(values: np.ndarray) -> np.ndarray:
    """Whole numbers of the fewest bits that hold the largest of them, as 0 to 255."""
    largest = next(2**bits - 1 for bits in DEPTHS if values.max() < 2**bits)
    return (values / largest * 255).round()
