"""Karpathy's splits of COCO, Flickr30k and Flickr8k (Karpathy & Fei-Fei, CVPR 2015): `dataset_*.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vpt.data.caption_rows import Row, image_root, pair_set, text_of
from vpt.data.pairs import PairSet
from vpt.data.texts import read_json
from vpt.errors import VptError
from vpt.paths import resolve

NAMES = ("karpathy",)


def load(
    name: str,
    *,
    path: Path,
    root: Path | None = None,
    restval: bool = True,
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test"),
    empty: Literal["stop", "skip"] = "stop",
) -> PairSet:
    """The published train, val and test split: of COCO 113,287, 5,000 and 5,000 images.

    Args:
        name: "karpathy".
        path: dataset_coco.json, dataset_flickr30k.json or dataset_flickr8k.json.
        root: the folder of images; of COCO the one that holds train2014 and val2014. By default the file's own
            folder, or a usual one in it.
        restval: count COCO's "restval" images as training images, as is usual; otherwise leave them out.
        splits: those to read, so that images of the others need not be there.
        empty: stop at empty captions, or skip and count them.

    Raises:
        VptError: the file is none of Karpathy's, or images or captions are missing.
    """
    file = resolve(path)
    content = read_json(file)
    try:
        images = [image for image in content["images"] if image["split"] != "restval" or restval]
        known = {"train": "train", "restval": "train", "val": "val", "test": "test"}
        wanted = [image for image in images if known[image["split"]] in splits]
        base = image_root(root, file.parent, _file_of(wanted[0])) if wanted else file.parent
        rows = [row for image in wanted for row in _rows(image, base, known[image["split"]], file)]
    except (KeyError, TypeError, AttributeError) as error:
        raise VptError(f"{file} is no dataset_*.json of Karpathy's ({error!r}): download it again.") from error
    return pair_set(f"{name} {file.stem}", rows, source=file, empty=empty)


def _rows(image: dict[str, Any], base: Path, split: str, file: Path) -> Iterator[Row]:
    for number, sentence in enumerate(image["sentences"] or [{"raw": ""}], 1):
        place = f"{image['filename']}, sentence {number}"
        yield Row(split, base / _file_of(image), text_of(sentence["raw"], f"{file}, {place}"), place)


def _file_of(image: dict[str, Any]) -> str:
    """Below the root; only COCO's file names a folder too."""
    return str(Path(image.get("filepath", "")) / image["filename"])
