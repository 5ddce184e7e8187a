"""Tiny data sets on disk, in the layouts that tests need."""

from pathlib import Path

from PIL import Image

import vpt


def picture(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def folder_of(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        for index in range(count):
            picture(root / name / f"{index:02d}.png", index)
    return root


def sizes(data: vpt.data.DataSet) -> dict[str, int]:
    return {name: len(samples) for name, samples in data.splits().items()}
