"""ImageNet (Russakovsky et al., IJCV 2015) and four variants that are for testing only, as CoOp lays them out on disk.

Class names come from classnames.txt, lines of "n01440764 tench", which holds them in the order of ImageNet's labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from vpt.data.base import DataSet, Files
from vpt.data.folder import read_classes
from vpt.data.layout import folders_in
from vpt.data.pieces import home, read_lines, require
from vpt.errors import VptError
from vpt.paths import data_root

TEMPLATE = "a photo of a {}."


class Variant(NamedTuple):
    """Where a variant lies: folder, folder of images in it; what to get; whether it has all of ImageNet's classes."""

    folder: str
    images: str
    archive: str
    complete: bool


VARIANTS = {
    "imagenetv2": Variant(
        "imagenetv2", "imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency.tar.gz", True
    ),
    "imagenet_sketch": Variant("imagenet-sketch", "images", "the archive of HaohanWang/ImageNet-Sketch", True),
    "imagenet_a": Variant(
        "imagenet-adversarial", "imagenet-a", "imagenet-a.tar of hendrycks/natural-adv-examples", False
    ),
    "imagenet_r": Variant("imagenet-rendition", "imagenet-r", "imagenet-r.tar of hendrycks/imagenet-r", False),
}

NAMES = ("imagenet", *VARIANTS)


def load(name: str, *, path: Path | None = None, val: Literal["test", "train"] = "test") -> DataSet:
    """ImageNet with its training images; a variant with test images alone.

    ImageNet's validation images are the test split, as nobody has the labels of its test images. CoOp takes them as
    the val split too, and never chooses by it: its models are those of the last epoch. `fit` does choose, so for a
    figure to report take val="train", and val_fraction=0 for the last epoch.

    ImageNet-A and -R have 200 of the classes, and labels of their own for these. ImageNetV2's folders are labels.
    Images are in order of name; where a few are drawn from each class of ImageNet, CoOp's own draw depends on the
    order in which a file system lists them, so that no two machines need agree.

    Args:
        name: "imagenet" or a key of `VARIANTS`.
        path: the data set's folder, where it is not the layout's own below VPT_DATA.
        val: of ImageNet, "test" for CoOp's val split, or "train" to have one dealt from the training images.

    Raises:
        VptError: a piece is missing, or folders and class names do not fit.
    """
    if name == "imagenet":
        return _imagenet(home("imagenet", path), val)
    if val != "test":
        raise VptError(f"data.val={val} is an option of imagenet: {name} has no training images.")
    variant = VARIANTS[name]
    root = home(variant.folder, path)
    images = root / variant.images
    require(name, {images: f"the images ({variant.archive}, unpacked)"})
    names = _class_names(name, root)
    if name == "imagenetv2":
        names = {str(label): class_name for label, class_name in enumerate(names.values())}
    expected = list(names) if variant.complete else [folder.name for folder in folders_in(images)]
    test = _read(images, expected, names)
    return DataSet(name, tuple(names[folder] for folder in expected), Files([], []), test=test, templates=(TEMPLATE,))


def _imagenet(root: Path, val: str) -> DataSet:
    train, test = root / "images" / "train", root / "images" / "val"
    require(
        "imagenet",
        {
            train: "the training images (ILSVRC2012_img_train.tar, one folder for each class)",
            test: "the validation images (ILSVRC2012_img_val.tar, sorted into one folder for each class)",
        },
    )
    names = _class_names("imagenet", root)
    folders = [folder.name for folder in folders_in(train)]
    tested = _read(test, folders, names)
    classes = tuple(names[folder] for folder in folders)
    held_out = tested if val == "test" else None
    return DataSet("imagenet", classes, _read(train, folders, names), held_out, tested, templates=(TEMPLATE,))


def _class_names(name: str, root: Path) -> dict[str, str]:
    """Names by WordNet ID; of classes with one name ("sunglasses") all but the first have the ID added to it.

    The file lies in the data set's own folder, or in that of ImageNet.
    """
    elsewhere = data_root() / "imagenet" / "classnames.txt"
    file = root / "classnames.txt"
    if not file.exists() and elsewhere.exists():
        file = elsewhere
    require(name, {file: "classnames.txt (linked in CoOp's DATASETS.md)"})
    names: dict[str, str] = {}
    for line in read_lines(file):
        folder, _, class_name = line.partition(" ")
        if not class_name:
            raise VptError(f"{file} has the line {line!r}, which is not 'n01440764 tench': download it again.")
        names[folder] = f"{class_name} ({folder})" if class_name in names.values() else class_name
    return names


def _read(images: Path, expected: Sequence[str], names: dict[str, str]) -> Files:
    """The images of the folders `expected`, which are all that there are, each with a name and labelled in order."""
    there = [folder.name for folder in folders_in(images)]
    missing = [folder for folder in expected if folder not in there]
    if missing or not there:
        lacks = (
            f"lacks {len(missing)} folders of classes, first {missing[0]}" if missing else "holds no folders of classes"
        )
        raise VptError(f"{images} {lacks}: unpack its archive again, one folder for each class.")
    nameless = [folder for folder in there if folder not in names]
    if nameless:
        raise VptError(
            f"classnames.txt has no name for {images / nameless[0]}: download it again, or remove the folder."
        )
    files = read_classes(images, list(expected))
    empty = sorted(set(range(len(expected))) - set(files.labels))
    if empty:
        raise VptError(f"{images / expected[empty[0]]} holds no images: unpack its archive again.")
    return files
