"""FGVC-Aircraft (Maji et al., arXiv:1306.5151, 2013) by variant, as CoOp lays it out on disk."""

from __future__ import annotations

from pathlib import Path

from vpt.data.base import DataSet, Files
from vpt.data.pieces import home, read_lines, require, require_images
from vpt.errors import VptError, did_you_mean

NAMES = ("fgvc_aircraft",)

TEMPLATE = "a photo of a {}, a type of aircraft."


def load(name: str, *, path: Path | None = None) -> DataSet:
    """The data set's own train, val and test split; classes are the variants, in the order of variants.txt.

    Args:
        name: "fgvc_aircraft".
        path: the folder "data" of the archive, where it is not fgvc_aircraft below VPT_DATA.

    Raises:
        VptError: a list or an image is missing, or a line is not "image variant".
    """
    root = home("fgvc_aircraft", path)
    lists = {split: root / f"images_variant_{split}.txt" for split in ("train", "val", "test")}
    archive = "of fgvc-aircraft-2013b.tar.gz (what its folder data holds)"
    pieces = {file: f"{file.name} {archive}" for file in (root / "variants.txt", *lists.values())}
    require(name, {root / "images": f"the images {archive}", **pieces})
    variants = read_lines(root / "variants.txt")
    train, val, test = (_read(file, root / "images", variants) for file in lists.values())
    require_images(name, train.paths + val.paths + test.paths)
    return DataSet(name, tuple(variants), train, val, test, templates=(TEMPLATE,))


def _read(file: Path, images: Path, variants: list[str]) -> Files:
    """Lines of "1025794 707-320": an image's name, and its variant, which may hold spaces."""
    labels = {variant: label for label, variant in enumerate(variants)}
    rows = [line.partition(" ")[::2] for line in read_lines(file)]
    for image, variant in rows:
        if variant not in labels:
            hint = did_you_mean(variant, variants)
            raise VptError(f"{file} gives image {image} the variant {variant!r}, unknown to variants.txt: {hint}")
    return Files([images / f"{image}.jpg" for image, _ in rows], [labels[variant] for _, variant in rows])
