"""Data sets as CoOp lays them out on disk (Zhou et al., IJCV 2022), with its `split_zhou_*.json` files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from vpt.data.base import DataSet, Files
from vpt.errors import VptError
from vpt.paths import data_root, resolve


class Layout(NamedTuple):
    """Where a data set lies: folder, folder of images in it, split file in it, and the template for its names."""

    folder: str
    images: str
    split: str
    template: str = "a photo of a {}."


LAYOUTS = {
    "caltech101": Layout("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
    "oxford_pets": Layout("oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet."),
    "stanford_cars": Layout("stanford_cars", "", "split_zhou_StanfordCars.json"),
    "oxford_flowers": Layout(
        "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", "a photo of a {}, a type of flower."
    ),
    "food101": Layout("food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food."),
    "sun397": Layout("sun397", "SUN397", "split_zhou_SUN397.json"),
    "dtd": Layout("dtd", "images", "split_zhou_DescribableTextures.json", "{} texture."),
    "eurosat": Layout("eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}."),
    "ucf101": Layout("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}."),
}

NAMES = tuple(LAYOUTS)


def load(name: str, *, path: Path | None = None) -> DataSet:
    """The published train, val and test split; "_" in class names becomes a space.

    Args:
        name: a key of `LAYOUTS`.
        path: the data set's folder, where it is not the layout's own below VPT_DATA.

    Raises:
        VptError: the folder, the split file or an image is missing.
    """
    layout = LAYOUTS[name]
    root = resolve(path) if path else data_root() / layout.folder
    images, split_file = root / layout.images, root / layout.split
    for needed, what in ((images, "the images"), (split_file, "the split file of CoOp's DATASETS.md")):
        if not needed.exists():
            raise VptError(f"{name} is not complete: put {what} at {needed}, or set VPT_DATA (see data/README.md).")
    try:
        splits = json.loads(split_file.read_text(encoding="utf-8"))
        rows = {
            split: [(str(p), int(label), str(c)) for p, label, c in splits[split]] for split in ("train", "val", "test")
        }
    except (json.JSONDecodeError, KeyError, ValueError, TypeError) as error:
        raise VptError(f"{split_file} is no split file of CoOp's ({error!r}): download it again.") from error
    names = {label: class_name for split in rows.values() for _, label, class_name in split}
    if sorted(names) != list(range(len(names))):
        raise VptError(f"{split_file} does not number its classes from 0 without gaps: download it again.")
    missing = [images / p for split in rows.values() for p, _, _ in split if not (images / p).is_file()]
    if missing:
        raise VptError(f"{len(missing)} images of {name} are missing, first {missing[0]}: unpack its archive again.")
    train, val, test = (Files([images / p for p, _, _ in rows[s]], [y for _, y, _ in rows[s]]) for s in rows)
    classes = tuple(names[label].replace("_", " ") for label in range(len(names)))
    return DataSet(name, classes, train, val, test, templates=(layout.template,))
