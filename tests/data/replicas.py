"""Tiny data sets on disk, in the layouts that tests need, and what tests ask of a data set."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vpt
from vpt import VptError
from vpt.data.pairs import PairSet

# No part of the images is set aside.
WHOLE = {"val_fraction": 0, "test_fraction": 0}


def picture(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def folder_of(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        for index in range(count):
            picture(root / name / f"{index:02d}.png", index)
    return root


def class_folder(root: Path, count: int = 10) -> Path:
    return folder_of(root, {"tree_frog": count, "owl": count})


def flickr8k(root: Path, captions: str = "captions.txt", images: str = "Images", lists: bool = True) -> Path:
    for i in range(8):
        picture(root / images / f"{i}_x.jpg", i)
    rows = [(f"{i}_x.jpg", j, f"A dog , number {i} .") for i in range(8) for j in range(5)]
    text = {
        "captions.txt": "image,caption\n" + "".join(f'{i},"{c}"\n' for i, _, c in rows),
        "Flickr8k.token.txt": "".join(f"{i}#{j}\t{c}\n" for i, j, c in rows),
        "results.csv": "image_name| comment_number| comment\n" + "".join(f"{i}| {j}| {c}\n" for i, j, c in rows),
    }[captions]
    (root / captions).write_text(text)
    if lists:
        for split, of_split in (("train", range(4)), ("dev", [4]), ("test", [5, 6])):
            (root / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{i}_x.jpg\n" for i in of_split))
    return root


def sizes(data: vpt.data.DataSet | PairSet) -> dict[str, int]:
    return {name: len(samples) for name, samples in data.splits().items()}


def files(data: PairSet, split: str = "train") -> list[str]:
    pairs = data.splits()[split]
    return [Path(pairs.name(i)).name for i in range(len(pairs))]


def refused(name: str, **options: Any) -> str:
    with pytest.raises(VptError) as error:
        vpt.data.load(name, **options)
    return str(error.value)
