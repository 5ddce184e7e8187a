"""Data sets that CoOp gives a `split_zhou_*.json` file (Zhou et al., IJCV 2022), as it lays them out on disk.

The split file holds labels and class names too. Some names are not the folders': Caltech-101 numbers its classes in
ASCII order of folders ("Faces" first, called "face") and leaves BACKGROUND_Google and Faces_easy out; EuroSAT's are
spelled out ("Annual Crop Land"); Cars' begin with the year.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from vpt.data.base import DataSet, Files
from vpt.data.pieces import home, require, require_images
from vpt.errors import VptError


class Layout(NamedTuple):
    """Where a data set lies: folder, folder of images in it, split file in it; what the images come in; a template."""

    folder: str
    images: str
    split: str
    archive: str
    template: str = "a photo of a {}."


LAYOUTS = {
    "caltech101": Layout(
        "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "101_ObjectCategories.tar.gz"
    ),
    "oxford_pets": Layout(
        "oxford_pets", "images", "split_zhou_OxfordPets.json", "images.tar.gz", "a photo of a {}, a type of pet."
    ),
    "stanford_cars": Layout("stanford_cars", "", "split_zhou_StanfordCars.json", "cars_train.tgz and cars_test.tgz"),
    "oxford_flowers": Layout(
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        "102flowers.tgz",
        "a photo of a {}, a type of flower.",
    ),
    "food101": Layout(
        "food-101", "images", "split_zhou_Food101.json", "food-101.tar.gz", "a photo of {}, a type of food."
    ),
    "sun397": Layout("sun397", "SUN397", "split_zhou_SUN397.json", "SUN397.tar.gz"),
    "dtd": Layout("dtd", "images", "split_zhou_DescribableTextures.json", "dtd-r1.0.1.tar.gz", "{} texture."),
    "eurosat": Layout("eurosat", "2750", "split_zhou_EuroSAT.json", "EuroSAT.zip", "a centered satellite photo of {}."),
    "ucf101": Layout(
        "ucf101",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        "UCF-101-midframes.zip",
        "a photo of a person doing {}.",
    ),
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
    root = home(layout.folder, path)
    images, split_file = root / layout.images, root / layout.split
    require(
        name,
        {
            images: f"the images ({layout.archive}, unpacked)",
            split_file: f"{layout.split} (linked in CoOp's DATASETS.md)",
        },
    )
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
    require_images(name, [images / p for split in rows.values() for p, _, _ in split])
    train, val, test = (Files([images / p for p, _, _ in rows[s]], [y for _, y, _ in rows[s]]) for s in rows)
    classes = tuple(names[label].replace("_", " ") for label in range(len(names)))
    return DataSet(name, classes, train, val, test, templates=(layout.template,))
