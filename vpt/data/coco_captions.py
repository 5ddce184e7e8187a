"""COCO's captions as published (Chen et al., arXiv 1504.00325, 2015): `captions_{train,val}{2014,2017}.json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vpt.data.caption_rows import Row, pair_set, text_of
from vpt.data.pairs import PairSet
from vpt.data.texts import read_json
from vpt.errors import VptError
from vpt.paths import data_root, resolve

NAMES = ("coco_captions",)


def load(
    name: str,
    *,
    path: Path | None = None,
    year: Literal[2014, 2017] = 2017,
    splits: tuple[Literal["train", "val"], ...] = ("train", "val"),
    empty: Literal["stop", "skip"] = "stop",
) -> PairSet:
    """Train and val; captions of the test images are not public. For the usual test split say "karpathy".

    Args:
        name: "coco_captions".
        path: the folder of `annotations/`, and of `train2017/` and so on or `images/train2017/`; by default
            coco below VPT_DATA.
        year: of the release.
        splits: those to read, so that the others need not be there.
        empty: stop at empty captions, or skip and count them.

    Raises:
        VptError: a file or images are missing, or the file holds no captions of COCO's form.
    """
    folder = resolve(path) if path else data_root() / "coco"
    if not splits:
        raise VptError("data.splits is empty: name train, val or both.")
    files = {split: folder / "annotations" / f"captions_{split}{year}.json" for split in splits}
    for file in files.values():
        if not file.is_file():
            raise VptError(f"there is no {file}: unpack COCO's annotations there, or set data.path and data.splits.")
    rows: list[Row] = []
    for split, file in files.items():
        images = next(
            (d for d in (folder / f"{split}{year}", folder / "images" / f"{split}{year}") if d.is_dir()), None
        )
        if images is None:
            raise VptError(f"there is no folder {folder / f'{split}{year}'}: unpack the images there.")
        rows += _rows(file, images, split)
    return pair_set(name, rows, source=files[splits[0]].parent, empty=empty, remedy="unpack COCO's archives again")


def _rows(file: Path, folder: Path, split: str) -> Iterator[Row]:
    """Images in the file's order, each with its captions; one that has none gives an empty one."""
    content = read_json(file)
    try:
        captions: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
        for image in content["images"]:
            for number, text in enumerate(captions[image["id"]] or [""], 1):
                place = f"{image['file_name']}, caption {number}"
                yield Row(split, folder / image["file_name"], text_of(text, f"{file}, {place}"), place)
    except (KeyError, TypeError, AttributeError) as error:
        raise VptError(f"{file} is no file of COCO's captions ({error!r}): download it again.") from error
