"""Flickr8k (Hodosh et al., JAIR 2013) and Flickr30k (Young et al., TACL 2014): five captions an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vpt.data.caption_rows import Row, image_root, pair_set, read_csv
from vpt.data.pairs import PairSet
from vpt.data.texts import read_text
from vpt.errors import VptError, did_you_mean
from vpt.paths import data_root, resolve
from vpt.report.notes import first_of, tell

NAMES = ("flickr8k", "flickr30k")

CAPTION_FILES = (
    "captions.txt", "Flickr8k.token.txt", "results_20130124.token", "results.csv",
    "Flickr8k_text/Flickr8k.token.txt",
)  # fmt: skip
SPLIT_FILES = {
    "train": ("Flickr_8k.trainImages.txt", "Flickr8k_text/Flickr_8k.trainImages.txt", "train.txt"),
    "val": ("Flickr_8k.devImages.txt", "Flickr8k_text/Flickr_8k.devImages.txt", "val.txt"),
    "test": ("Flickr_8k.testImages.txt", "Flickr8k_text/Flickr_8k.testImages.txt", "test.txt"),
}

# Of the spreadsheet in circulation, in whose one bad line a bar is missing.
BARS = re.compile(r"([^|]+)\|\s*(\d+)\s*\|?\s*(.*)")
TOKEN = re.compile(r"([^\t]+)#(\d+)\t(.*)")


def load(
    name: str,
    *,
    path: Path | None = None,
    captions: str | None = None,
    root: Path | None = None,
    empty: Literal["stop", "skip"] = "stop",
) -> PairSet:
    """Images with their captions in the published splits, where the lists of these are there.

    With a list of training images, images in no list are left out, as in the papers; without one they are
    trained on.

    Args:
        name: "flickr8k" or "flickr30k".
        path: the data set's folder, where it is not the one of this name below VPT_DATA.
        captions: name of the file of captions in it; without it the first of `CAPTION_FILES` that is there.
        root: the folder of images; `path` or a usual one in it by default.
        empty: stop at empty captions, or skip and count them.

    Raises:
        VptError: the folder, the captions or images are missing, or a line cannot be read.
    """
    folder = resolve(path) if path else data_root() / name
    if not folder.is_dir():
        raise VptError(f"there is no folder {folder}: put {name} there, or set data.path or VPT_DATA.")
    file = _captions_file(folder, captions)
    lists = {split: _listed(folder, names) for split, names in SPLIT_FILES.items()}
    split_of: dict[str, str] = {}
    for split, images in lists.items():
        for image in sorted(images):
            if split_of.setdefault(image, split) != split:
                raise VptError(
                    f"{image} is in the lists of {split_of[image]} and of {split} in {folder}: keep it in one."
                )
    rest = "" if lists["train"] else "train"
    read = list(_read(file))
    if not read:
        raise VptError(f"{file} holds no captions: download it again.")
    base = image_root(root, folder, read[0][1])
    captioned = dict.fromkeys(image for _, image, _ in read)
    unlisted = [image for image in captioned if not split_of.get(Path(image).stem, rest)]
    if unlisted:
        tell(f"{len(unlisted)} images of {file} are in no list, and left out as in the papers: {first_of(unlisted)}.")
    uncaptioned = sorted(split_of.keys() - {Path(image).stem for image in captioned})
    if uncaptioned:
        tell(f"{len(uncaptioned)} images of the lists have no captions in {file}: {first_of(uncaptioned)}.")
    rows = (Row(split_of.get(Path(image).stem, rest), base / image, text, f"line {n}") for n, image, text in read)
    return pair_set(name, (row for row in rows if row.split), source=file, empty=empty)


def _captions_file(folder: Path, asked: str | None) -> Path:
    there = next((folder / name for name in ([asked] if asked else CAPTION_FILES) if (folder / name).is_file()), None)
    if there is None:
        names = [path.name for path in folder.iterdir() if path.is_file()] or ["no file"]
        hint = did_you_mean(asked or CAPTION_FILES[0], names)
        raise VptError(f"{folder} holds no {asked or ' or '.join(CAPTION_FILES[:4])}: {hint}")
    return there


def _listed(folder: Path, names: tuple[str, ...]) -> set[str]:
    """Names of a split's images without suffix, as Flickr30k's lists have them; empty where there is no list."""
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    return {Path(line.strip()).stem for line in read_text(file).split("\n") if line.strip()} if file else set()


def _read(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, image and caption of each row, in any of the three formats."""
    lines = read_text(file).split("\n")
    header = lines[0].replace(" ", "").strip()
    if header == "image,caption":
        for number, row in read_csv(file, ","):
            yield number, row["image"].strip(), row["caption"]
        return
    bars = header.startswith("image_name|")
    for number, line in enumerate(lines, 1):
        if not line.strip() or (bars and number == 1):
            continue
        match = (BARS if bars else TOKEN).fullmatch(line.rstrip("\r"))
        if match is None:
            wanted = "image| number| caption" if bars else "image#number, a tab and a caption"
            raise VptError(f"{file}, line {number} is not {wanted}: {line[:60]!r}; download the file again.")
        yield number, match[1].strip(), match[3]
