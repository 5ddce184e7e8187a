"""Image processors of transformers as `Preprocessing`: what a model was trained to see is read, never guessed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.weights import reason_of
from vpt.trust import remedy

# The side from which on ConvNeXt's image processor squashes images, in pixels.
CONVNEXT_SQUASHED = 384

# PIL's numbers of resampling methods.
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Families, by a part of their names, that are published with ImageNet's mean and deviation.
OF_IMAGENET = ("mae", "msn", "ijepa", "dinov3")


def published(kind: str, size: tuple[int, int]) -> Preprocessing:
    """What models of a family (the name of its class) are published with, for one that does not say it itself."""
    lower = kind.lower()
    if "siglip" in lower:
        return Preprocessing(
            size,
            crop_mode="squash",
            interpolation="bilinear" if "siglip2" in lower else "bicubic",
            mean=HALF[0],
            std=HALF[1],
        )
    if "blip" in lower or "chineseclip" in lower:
        return Preprocessing(size, crop_mode="squash", mean=CLIP[0], std=CLIP[1])
    if "clip" in lower:
        return Preprocessing(size, mean=CLIP[0], std=CLIP[1])
    if "dinov2" in lower:
        # Trained at 518 pixels at the end, and published with images of 224.
        size = (224, 224) if size == (518, 518) else size
        return Preprocessing(size, crop=224 / 256, mean=IMAGENET[0], std=IMAGENET[1])
    if "deit" in lower:
        return Preprocessing(size, crop=224 / 256, crop_mode="squash", mean=IMAGENET[0], std=IMAGENET[1])
    mean, std = IMAGENET if any(each in lower for each in OF_IMAGENET) else HALF
    return Preprocessing(size, crop_mode="squash", interpolation="bilinear", mean=mean, std=std)


def processor_of(name: str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    """The image processor beside a model on the hub or in a folder; None where there is none.

    Raises:
        VptError: it is there and cannot be read.
    """
    try:
        return AutoImageProcessor.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        # What is not there, or cannot be had without a network, is an OSError; so is a damaged file.
        if isinstance(error, OSError) and not (Path(name) / "preprocessor_config.json").is_file():
            return None
        raise VptError(
            f"the image processor of hf/{name} cannot be read ({reason_of(error)}): "
            f"{remedy(error, 'correct preprocessor_config.json, or say preprocessing=…')}."
        ) from error


def converted(processor: Any, where: str) -> Preprocessing:
    """What an image processor does to an image.

    Args:
        processor: of transformers, for single images.
        where: the model's name, for errors.

    Raises:
        VptError: it does something else than to resize, to cut and to normalise, or its values make no sense.
    """
    try:
        found = _converted(processor, where)
        return Preprocessing(found["size"]).changed(found, f"the image processor of {where}: ")
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise VptError(
            f"the image processor of {where} makes no sense ({reason_of(error)}): say preprocessing=…."
        ) from error


def squashed(processor: Any, where: str) -> tuple[Preprocessing, str]:
    """The square of as many patches as SigLIP 2's image processor cuts an image into at most, and what to say of it.

    Images of a batch have one size here; that processor keeps each image's aspect ratio.
    """
    side = math.isqrt(processor.max_num_patches) * processor.patch_size
    found = Preprocessing((side, side)).changed(
        {
            "crop_mode": "squash",
            "interpolation": RESAMPLING[int(processor.resample)],
            "mean": tuple(processor.image_mean),
            "std": tuple(processor.image_std),
        },
        f"the image processor of {where}: ",
    )
    return found, (
        f"{where} was trained on images of any aspect ratio, in up to {processor.max_num_patches} patches: here they "
        f"are made {side}×{side} pixels; say otherwise by preprocessing=…."
    )


def _converted(processor: Any, where: str) -> dict[str, Any]:
    size, crop = _sides(processor.size), _sides(getattr(processor, "crop_size", None))
    cut = bool(getattr(processor, "do_center_crop", False)) and bool(crop)
    given = crop if cut else size
    height, width = given.get("height", 0), given.get("width", 0)
    share = getattr(processor, "crop_pct", None)
    if share and set(size) == {"shortest_edge"}:
        # ConvNeXt's: of small images the middle is cut out of larger ones, and large ones are squashed.
        side = size["shortest_edge"]
        height = width = side
        size = {"shortest_edge": int(side / share)} if side < CONVNEXT_SQUASHED else {"height": side, "width": side}
    if not processor.do_resize or not (height and width):
        _refuse(where, f"its image processor resizes by {size or 'nothing'} and crops by {crop or 'nothing'}")
    if "shortest_edge" in size:
        if height != width:
            _refuse(where, f"its image processor cuts {height}×{width} out of images with a short side that is given")
        mode, resized = "center", size["shortest_edge"]
    elif not cut:
        mode, resized = "squash", height
    elif size.get("height") and size["height"] * width == size.get("width", 0) * height:
        mode, resized = "squash", size["height"]
    else:
        _refuse(where, f"its image processor resizes by {size} and crops by {crop}")
    mean = tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0)
    std = tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0)
    # Processors scale values from 0 to 255 by a factor of their own; here they run from 0 to 1.
    scale = 255 * (processor.rescale_factor if processor.do_rescale else 1)
    if not math.isclose(scale, 1, rel_tol=1e-6):
        mean, std = tuple(value / scale for value in mean), tuple(value / scale for value in std)
    return {
        "size": (height, width),
        "crop": _share(height, resized),
        "crop_mode": mode,
        "interpolation": RESAMPLING[int(processor.resample)],
        "mean": mean,
        "std": std,
    }


def _share(side: int, resized: int) -> float:
    """The crop by which timm's transform, which rounds down, resizes to `resized` pixels and then cuts `side`."""
    share = side / resized
    return share if math.floor(side / share) == resized else side / (resized + 0.5)


def _sides(size: Any) -> dict[str, int]:
    return {key: value for key, value in dict(size or {}).items() if value is not None}


def _refuse(where: str, what: str) -> Any:
    raise VptError(f"{where} was trained on images that are not known here ({what}): say preprocessing=….")
