"""What the sources of captions share: rows of image and caption grouped by image, with nothing missing or empty."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from vpt.data.columns import check_columns
from vpt.data.pairs import FilePairs, PairSet
from vpt.data.texts import read_text
from vpt.errors import VptError
from vpt.paths import resolve
from vpt.report.notes import first_of, tell

# Where images lie beside the caption files as they are published.
IMAGE_FOLDERS = (
    "", "Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images"
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One caption of one image; `place` says where it was read, e.g. "line 7"."""

    split: str
    image: Path
    caption: str
    place: str


def pair_set(
    name: str,
    rows: Iterable[Row],
    *,
    source: Path,
    empty: Literal["stop", "skip"],
    remedy: str = "put them there, or set data.root",
) -> PairSet:
    """Rows grouped by image, in the order in which images come first.

    Args:
        name: of the data set.
        rows: of all splits; "train", "val" and "test" count.
        source: the file of captions, for messages.
        empty: stop at captions of no text, or leave them out and count them.
        remedy: what to do about missing images.

    Raises:
        VptError: no rows, empty captions, images that are missing or in two splits.
    """
    rows = list(rows)
    if not rows:
        raise VptError(f"{source} gives no captions: it needs one for each image.")
    blank = [row.place for row in rows if not row.caption.strip()]
    check_empty(blank, len(rows), source, empty)
    captions: dict[Path, list[str]] = {}
    split_of: dict[Path, str] = {}
    for row in rows:
        if split_of.setdefault(row.image, row.split) != row.split:
            raise VptError(
                f"{row.image} is in {split_of[row.image]} and again, at {row.place} of {source}, in {row.split}: "
                "keep it in one split."
            )
        of_image = captions.setdefault(row.image, [])
        if row.caption.strip():
            of_image.append(" ".join(row.caption.split()))
    check_there(list(captions), source, remedy)
    without = [str(image) for image, texts in captions.items() if not texts]
    members: dict[str, list[Path]] = {}
    for image, split in split_of.items():
        if captions[image]:
            members.setdefault(split, []).append(image)
    if not members:
        raise VptError(f"every caption of {source} is empty: write some.")
    splits = {split: FilePairs(images, [captions[image] for image in images]) for split, images in members.items()}
    return PairSet(
        name,
        splits.get("train") or FilePairs([], []),
        splits.get("val"),
        splits.get("test"),
        skipped=tuple(without),
        empty=len(blank),
    )


def texts_of(value: Any, place: str) -> list[str]:
    """The captions that a value is, one or a list of several; an empty list is one empty caption.

    Raises:
        VptError: something that is no text.
    """
    values = value if isinstance(value, list) and value else [value]
    for text in values:
        if isinstance(text, float | bool | Mapping) or (isinstance(text, list) and text):
            raise VptError(f"{place} has {text!r} for a caption: write a text, or a list of texts.")
    return ["" if text is None or text == [] else str(text) for text in values]


def text_of(value: Any, place: str) -> str:
    """The caption that a value of a published file is; null is an empty one.

    Raises:
        VptError: something that is no text.
    """
    if value is not None and not isinstance(value, str):
        raise VptError(f"{place} has {value!r} for a caption: write a text.")
    return value or ""


def check_empty(places: Sequence[str], total: int, source: Path | str, empty: Literal["stop", "skip"]) -> None:
    """Raise a `VptError` if captions at `places` are empty and should not be, or say that they are skipped."""
    if places and empty == "stop":
        raise VptError(
            f"{len(places)} of the {total} captions of {source} are empty, at {first_of(places)}; write them, or say "
            "data.empty=skip."
        )
    if places:
        tell(f"{len(places)} empty captions skipped, at {first_of(places)}.")


def check_there(images: Sequence[Path], source: Path, remedy: str) -> None:
    """Raise a `VptError` if some of the image files are missing: how many of how many, and the first names."""
    missing = [str(image) for image in images if not os.path.isfile(image)]
    if missing:
        raise VptError(
            f"{len(missing)} of the {len(images)} images of {source} are missing: {first_of(missing)}; {remedy}."
        )


def image_root(given: Path | None, beside: Path, first: str) -> Path:
    """The folder of images: the one given, or the first usual one in `beside` that holds the image `first`."""
    if given is not None:
        return resolve(given)
    return next((beside / folder for folder in IMAGE_FOLDERS if os.path.isfile(beside / folder / first)), beside)


def read_csv(file: Path, separator: str | None = None, quotes: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines that rows begin on, and the rows; without `separator` it is the commonest of the header's.

    Raises:
        VptError: a line has another number of columns than the header, or quotation marks that do not close; or two
            columns have one name.
    """
    text = read_text(file)
    header = text.partition("\n")[0]
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=separator or max("\t,;|", key=header.count),
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        skipinitialspace=True,
        strict=True,
    )
    columns: list[str] = []
    number = 1
    try:
        for row in reader:
            begun, number = number, reader.line_num + 1
            if not any(value.strip() for value in row) and len(row) <= 1:
                continue
            if not columns:
                columns = check_columns([value.strip() for value in row], file)
                continue
            if len(row) != len(columns):
                raise VptError(
                    f"{file}, line {begun} has {len(row)} columns and the first line {len(columns)}: mend "
                    "it, or put quotation marks around a caption that holds the separator."
                )
            yield begun, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise VptError(
            f"{file}, line {number} has quotation marks that are not closed or doubled ({error}): mend it, "
            "or read it by data.name=captions with data.quotes=false if they mean nothing."
        ) from error
