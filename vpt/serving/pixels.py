"""How a picture becomes the pixels that an exported program reads: described as JSON, and done with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from vpt.preprocessing import Preprocessing


def resizing(preprocessing: Preprocessing) -> dict[str, Any]:
    """The steps before the program, as timm's transform of evaluation takes them; `pixels` does them.

    Returns:
        "keep": "short side" or "long side", which becomes so long as `to` says while the shape is kept, or "neither",
        where both do; "to": height and width in pixels; "round": whether the other side is rounded "down" or to the
        "nearest" pixel; "interpolation": Pillow's name, which smooths where it makes smaller; "crop": height and width
        that are cut from the middle; "fill": red, green and blue of what the crop reaches beyond the picture.
    """
    height, width = (math.floor(side / preprocessing.crop) for side in preprocessing.size)
    keep = {"squash": "neither", "border": "long side"}.get(preprocessing.crop_mode, "short side")
    fill = [round(255 * value) for value in preprocessing.mean] if keep == "long side" else [0, 0, 0]
    return {
        "keep": keep,
        "to": [height, width],
        "round": "down" if keep == "short side" and height == width else "nearest",
        "interpolation": preprocessing.interpolation,
        "crop": list(preprocessing.size),
        "fill": fill,
    }


def pixels(picture: Image.Image, how: Mapping[str, Any]) -> np.ndarray:
    """An RGB picture as bytes (H, W, 3), resized and cropped as `resizing` says."""
    (height, width), (crop_height, crop_width) = how["to"], how["crop"]
    size = (width, height)
    if how["keep"] != "neither":
        ratios = (picture.width / width, picture.height / height)
        ratio = min(ratios) if how["keep"] == "short side" else max(ratios)
        size = (_rounded(picture.width, ratio, how["round"]), _rounded(picture.height, ratio, how["round"]))
    resized = picture.resize(size, Image.Resampling[how["interpolation"].upper()])
    cut = Image.new("RGB", (crop_width, crop_height), tuple(how["fill"]))
    cut.paste(resized, (_offset(resized.width, crop_width), _offset(resized.height, crop_height)))
    return np.asarray(cut)


def _rounded(side: int, ratio: float, how: str) -> int:
    # A quotient that is a whole number but for rounding is that number.
    return max(1, math.floor(side / ratio + 1e-6) if how == "down" else round(side / ratio))


def _offset(side: int, crop: int) -> int:
    return (crop - side) // 2 if crop > side else -round((side - crop) / 2)
