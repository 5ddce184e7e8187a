"""Data sets that CoOp gives a `split_zhou_*.json` file (Zhou et al., IJCV 2022), as it lays them out on disk.

The split file holds labels and class names too. Some names are not the folders': Caltech-101 numbers its classes in
ASCII order of folders ("Faces" first, called "face") and leaves BACKGROUND_Google and Faces_easy out; EuroSAT's are
spelled out ("Annual Crop Land"); Cars' begin with the year. A set of one's own with such a file is called "coop".
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vpt.data.base import DataSet, Files
from vpt.data.pieces import home, require, require_images
from vpt.data.rows import Labelled, each_once
from vpt.data.texts import read_json
from vpt.errors import VptError
from vpt.report.notes import first_of


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

# A set of one's own in this layout.
OWN = "coop"
NAMES = (*LAYOUTS, OWN)

Rows = dict[str, list[tuple[str, int, str]]]


def load(name: str, *, path: Path | None = None, images: str | None = None, split: str | None = None) -> DataSet:
    """The published train, val and test split; "_" in class names becomes a space.

    Args:
        name: a key of `LAYOUTS`; or "coop" for a set of one's own with a split file.
        path: the data set's folder, where it is not the layout's own below VPT_DATA.
        images: the folder of images in it, where not the layout's; of one's own set "images", if that is there, or
            the folder itself.
        split: the split file in it, where not the layout's; of one's own set the only one called split_*.json.

    Raises:
        VptError: the folder, the split file or an image is missing, or the file is none of CoOp's form.
    """
    layout = LAYOUTS[name] if name != OWN else _own(path, images, split)
    root = home(layout.folder, path)
    folder, split_file = root / (images or layout.images), root / (split or layout.split)
    require(
        name,
        {
            folder: f"the images ({layout.archive}, unpacked)",
            split_file: f"{layout.split} (linked in CoOp's DATASETS.md)",
        },
    )
    rows = _read(split_file)
    names = {label: class_name for of_split in rows.values() for _, label, class_name in of_split}
    if sorted(names) != list(range(len(names))):
        raise VptError(f"{split_file} does not number its classes from 0 without gaps: download it again.")
    require_images(name, [folder / p for of_split in rows.values() for p, _, _ in of_split])
    if name == OWN:
        _check_own(rows, folder, split_file)
    train, val, test = (Files([folder / p for p, _, _ in rows[s]], [y for _, y, _ in rows[s]]) for s in rows)
    classes = tuple(names[label].replace("_", " ") for label in range(len(names)))
    return DataSet(name, classes, train, val, test, templates=(layout.template,))


def _own(path: Path | None, images: str | None, split: str | None) -> Layout:
    """The layout of a set that is none of `LAYOUTS`."""
    if path is None:
        raise VptError("data.name=coop needs data.path: the folder that holds the images and split_*.json.")
    root = home("", path)
    files = sorted(file.name for file in root.glob("split_*.json"))
    if split is None and len(files) != 1:
        found = f"holds {first_of(files)}" if files else "holds no split_*.json"
        raise VptError(f"{root} {found}: name the split file in it as data.split=….")
    inside = images or ("images" if (root / "images").is_dir() else "")
    return Layout("", inside, split or files[0], "its own")


def _check_own(rows: Rows, folder: Path, split_file: Path) -> None:
    """Refuse what a published file has been seen not to have.

    Raises:
        VptError: an image in two splits or with two labels, or a label with two names.
    """
    every = [(split, *row) for split, of_split in rows.items() for row in of_split]
    each_once([Labelled(split, folder / p, label, f"{split} of {split_file}") for split, p, label, _ in every])
    names: dict[int, str] = {}
    for _, p, label, class_name in every:
        if names.setdefault(label, class_name) != class_name:
            both = f"{names[label]!r} and, at {p}, {class_name!r}"
            raise VptError(f"{split_file} calls label {label} {both}: give it one name.")


def _read(split_file: Path) -> Rows:
    """Image, label and name of the class of each row of a split file, by split."""
    splits = read_json(split_file)
    try:
        rows = {s: [(str(p), int(label), str(c)) for p, label, c in splits[s]] for s in ("train", "val", "test")}
    except (KeyError, ValueError, TypeError) as error:
        raise VptError(f"{split_file} is no split file of CoOp's ({error!r}): download it again.") from error
    empty = [split for split, of_split in rows.items() if not of_split]
    if "train" in empty:
        raise VptError(f"{split_file} has no training images: add some.")
    return rows
