"""Augmentation: whatever library it comes from, one callable from an RGB image to a (3, H, W) tensor."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vpt.errors import VptError, did_you_mean
from vpt.preprocessing import ImageTransform, Preprocessing, of_channels

AUGMENTATIONS = ("none", "flip", "crop", "large-crop", "shift", "resize-crop", "randaugment")
SMALLEST = {"crop": 0.08, "large-crop": 0.5, "randaugment": 0.25}


def augmentation(name: str, preprocessing: Preprocessing) -> ImageTransform:
    """A training transform by name.

    "none": the evaluation transform. "flip": that, mirrored after its crop half of the time. "crop": a random
    part of 8 to 100 % of the area, and flip (CoOp). "large-crop": likewise, of 50 to 100 % (the code of Tip-Adapter).
    "shift": a crop moved by up to an eighth of the side, and flip.
    "resize-crop": a random crop of the image whose short side becomes 8/7 of the crop's, and flip (VPT on FGVC).
    "randaugment": "crop" of at least 25 % and two random operations of magnitude 9 (Cubuk et al., 2020).
    Otherwise the path of a file that albumentations saved (`A.save`), .yaml or .json.

    Raises:
        VptError: no such name or file, or a file with arguments that albumentations does not know.
    """
    from timm.data import create_transform
    from torchvision import transforms as T
    from torchvision.transforms.functional import InterpolationMode

    if name in ("none", "flip"):
        still, rest = divided(preprocessing.transform())
        return T.Compose([*still, *([T.RandomHorizontalFlip()] if name == "flip" else []), rest])
    if name in SMALLEST:
        return create_transform(
            input_size=(3, *preprocessing.size),
            is_training=True,
            scale=(SMALLEST[name], 1.0),
            color_jitter=None,
            auto_augment="rand-m9-n2" if name == "randaugment" else None,
            interpolation=preprocessing.interpolation,
            mean=preprocessing.mean,
            std=preprocessing.std,
        )
    if name in ("shift", "resize-crop"):
        height, width = preprocessing.size
        mode = InterpolationMode(preprocessing.interpolation)
        resized, padding = [height, width], (width // 8, height // 8)
        if name == "resize-crop":
            resized, padding = [round(max(height, width) * 8 / 7)], (0, 0)
        return T.Compose(
            [
                T.Resize(resized, interpolation=mode),
                T.RandomCrop((height, width), padding=padding),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )
    if Path(name).suffix in (".yaml", ".yml", ".json"):
        return as_transform(_albumentations_file(Path(name)), preprocessing)
    raise VptError(f"there is no augmentation {name!r}: {did_you_mean(name, AUGMENTATIONS)}")


def as_transform(transform: Any, preprocessing: Preprocessing) -> ImageTransform:
    """Any library's transform as a callable from an RGB image to a (3, H, W) tensor.

    torchvision's (v1 and v2), timm's, open_clip's and plain functions are called with the image. One of
    albumentations is given an array. Where one ends in PIL's image, or in whole numbers, `preprocessing`'s mean and
    deviation are applied.

    Raises:
        VptError: it is no transform, or steps of torchvision's that end in numbers from 0 to 1, not normalised.
    """
    if isinstance(transform, str):
        made = augmentation(transform, preprocessing)
        # The first two begin with the transform of evaluation, which minds the channels.
        return made if transform in ("none", "flip") else of_channels(made, len(preprocessing.mean))
    if type(transform).__module__.partition(".")[0] == "albumentations":
        return FromAlbumentations(transform, preprocessing)
    if not callable(transform):
        raise VptError(f"a {type(transform).__name__} is no transform: give a callable from a PIL image to a tensor.")
    if isinstance(transform, type):
        raise VptError(f"{transform.__name__} is a class: give a transform made of it, {transform.__name__}(…).")
    check_normalised(transform, preprocessing, "the augmentation")
    from torchvision import transforms as T

    return T.Compose([transform, Finished(preprocessing)])


def check_normalised(transform: Any, preprocessing: Preprocessing, what: str) -> None:
    """Refuse steps of torchvision's that are known to end in numbers from 0 to 1, where the backbone sees others.

    Args:
        transform: any library's.
        preprocessing: of the backbone.
        what: the transform is, for the error.

    Raises:
        VptError: they do.
    """
    from torchvision import transforms as T
    from torchvision.transforms import v2

    if set(preprocessing.mean) == {0.0} and set(preprocessing.std) == {1.0}:
        return
    steps = _steps(transform, (T.Compose, v2.Compose))
    to_shares = (T.ToTensor, T.ConvertImageDtype, v2.ToTensor, v2.ToDtype, v2.ConvertImageDtype)
    known = all(type(step).__module__.partition(".")[0] == "torchvision" for step in steps)
    if (
        known
        and any(isinstance(s, to_shares) for s in steps)
        and not any(isinstance(step, T.Normalize | v2.Normalize | T.Lambda | v2.Lambda) for step in steps)
    ):
        raise VptError(
            f"{what} ends in numbers from 0 to 1, and the backbone was trained on normalised ones: end it "
            f"with Normalize({preprocessing.mean}, {preprocessing.std}), or before ToTensor."
        )


def divided(transform: ImageTransform) -> tuple[list[Any], ImageTransform]:
    """The steps at a transform's beginning that make one image always the same image, and the rest of it.

    Resizing and cropping the middle, as torchvision (v1 and v2) and timm do them; anything else is not known to be
    still, and begins the rest.
    """
    from torchvision import transforms as T
    from torchvision.transforms import v2

    steps, rest = [], _steps(transform, (T.Compose, v2.Compose))
    while rest and _still(rest[0]):
        steps.append(rest.pop(0))
    return steps, T.Compose(rest) if steps else transform


class Twice:
    """Two draws of a transform, (2, 3, H, W)."""

    def __init__(self, transform: ImageTransform) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> Tensor:
        """Both of an RGB image."""
        return torch.stack([self.transform(image), self.transform(image)])


def is_still(transform: ImageTransform) -> bool:
    """Whether a transform is known to draw nothing at random."""
    from timm.data.transforms import MaybeToTensor
    from torchvision import transforms as T
    from torchvision.transforms import v2

    _, rest = divided(transform)
    exact = (T.ToTensor, T.Grayscale, T.Normalize, v2.Normalize, MaybeToTensor)
    return all(type(step) in exact for step in _steps(rest, (T.Compose, v2.Compose)))


def _steps(transform: Any, compositions: tuple[type, ...]) -> list[Any]:
    if type(transform) not in compositions:
        return [transform]
    return [inner for step in transform.transforms for inner in _steps(step, compositions)]


def _still(step: Any) -> bool:
    from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
    from torchvision import transforms as T
    from torchvision.transforms import v2

    if type(step) is ResizeKeepRatio:
        random = step.random_scale_prob or step.random_aspect_prob or isinstance(step.interpolation, tuple)
        return not random
    return type(step) in (T.Resize, T.CenterCrop, v2.Resize, v2.CenterCrop, CenterCropOrPad)


class Finished:
    """What a transform gives as a normalised (3, H, W) tensor.

    PIL's images and bytes are normalised; real numbers are taken to be so already.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __call__(self, out: Any) -> Tensor:
        """The tensor.

        Raises:
            VptError: something else.
        """
        if isinstance(out, Image.Image):
            out = torch.from_numpy(np.array(out.convert("RGB"))).permute(2, 0, 1)
        if not isinstance(out, Tensor) or out.ndim != 3:
            shown = f"a tensor {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise VptError(f"the augmentation gives {shown}: let it end in a tensor (3, H, W).")
        return normalised(out, self.preprocessing)


def normalised(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """A tensor (3, H, W) of bytes normalised; of real numbers as it is.

    Raises:
        VptError: whole numbers of another kind.
    """
    if image.dtype == torch.uint8:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        return (image.float() / 255 - mean) / std
    if not image.is_floating_point():
        raise VptError(f"the augmentation gives {image.dtype}: let it end in bytes, or in normalised real numbers.")
    return image


class FromAlbumentations:
    """A transform of albumentations as a callable from an RGB image to a normalised (3, H, W) tensor.

    OpenCV does not smooth when it makes images smaller, so the image is first brought to 8/7 of the final
    size by PIL, which does, if it is larger. Seeds: see `vpt.data.loading`.
    """

    def __init__(self, transform: Any, preprocessing: Preprocessing) -> None:
        self.transform = transform
        self.preprocessing = preprocessing

    def __call__(self, image: Image.Image) -> Tensor:
        """The transformed image."""
        height, width = self.preprocessing.size
        ratio = max(height * 8 / 7 / image.height, width * 8 / 7 / image.width)
        if ratio < 1:
            size = (round(image.width * ratio), round(image.height * ratio))
            image = image.resize(size, Image.Resampling.BICUBIC)
        out = self.transform(image=np.asarray(image))["image"]
        if isinstance(out, np.ndarray):
            out = torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)
        if tuple(out.shape) != (3, height, width):
            shape = "×".join(map(str, out.shape))
            raise VptError(
                f"the albumentations transform gives {shape}, and the backbone takes 3×{height}×{width}: "
                f"let it end with a crop or resize to {height}×{width}."
            )
        return normalised(out, self.preprocessing).float()

    def set_random_seed(self, seed: int) -> None:
        """Seed albumentations' own generator."""
        self.transform.set_random_seed(seed)


def _albumentations_file(path: Path) -> Any:
    if not path.is_file():
        raise VptError(f"there is no augmentation file {str(path)!r}: write one with albumentations.save.")
    # It looks for a newer release over the network when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return A.load(path, data_format="json" if path.suffix == ".json" else "yaml")
        except (UserWarning, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VptError(f"{path} is no augmentation that albumentations can make: {error}") from error
