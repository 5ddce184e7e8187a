"""What a backbone was trained to see: size, crop, interpolation, mean and deviation of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from vpt.errors import VptError
from vpt.facts import PreprocessingFacts

ImageTransform = Callable[[Image.Image], Tensor]


def transformed(transform: ImageTransform, image: Image.Image, name: Callable[[], str]) -> Tensor:
    """What a transform makes of an image.

    Args:
        transform: of any library.
        image: in RGB.
        name: gives what the image is called, for errors.

    Raises:
        VptError: a library cannot do it, as with strips that become thinner than a pixel.
    """
    try:
        return transform(image)
    except (ValueError, OverflowError, ZeroDivisionError, MemoryError) as error:
        size = f"{image.width} × {image.height} pixels"
        raise VptError(f"{name()}, of {size}, cannot be transformed ({error}): remove it, or crop it.") from error


class NoPicture:
    """What pictures become for a backbone that takes neither RGB nor grey: a sentence.

    Args:
        channels: that it takes.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __call__(self, image: Any) -> Any:
        """Raise the sentence.

        Raises:
            VptError: always.
        """
        raise VptError(
            f"the backbone takes images of {self.channels} channels, and a picture has 3: give tensors "
            f"({self.channels}, H, W), preprocessed."
        )


def of_channels(transform: Any, channels: int) -> ImageTransform:
    """A composition of steps for pictures in RGB, as a backbone of other channels takes them: grey for one channel."""
    from timm.data.transforms import MaybeToTensor
    from torchvision import transforms as T

    if channels == 3:
        return transform
    steps = list(transform.transforms)
    to_tensor = (T.ToTensor, MaybeToTensor, T.PILToTensor)
    place = next((index for index, step in enumerate(steps) if isinstance(step, to_tensor)), len(steps))
    steps.insert(place, T.Grayscale(1) if channels == 1 else NoPicture(channels))
    return T.Compose(steps)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the tensor that a backbone reads.

    Attributes:
        size: height and width in pixels.
        crop: share of the resized image's side that the crop keeps, in (0, 1].
        crop_mode: "center" (resize the short side, cut the middle), "squash" (resize both sides) or
            "border" (resize the long side, pad).
        interpolation: "bilinear", "bicubic" or another of PIL's names; always antialiased.
        mean: subtracted from each of the channels, which run from 0 to 1: three, or one of grey images, or those of
            tensors that are given as they are.
        std: what each channel is divided by afterwards.
    """

    size: tuple[int, int]
    crop: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def transform(self) -> ImageTransform:
        """The deterministic transform of evaluation, from an RGB image to a (3, H, W) tensor."""
        from timm.data import create_transform

        made = create_transform(
            input_size=(3, *self.size),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop,
            crop_mode=self.crop_mode,
        )
        return of_channels(made, len(self.mean))

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def changed(self, given: Mapping[str, Any], where: str = "") -> Preprocessing:
        """These facts with others in the place of some.

        Args:
            given: by the names above, or by timm's crop_pct.
            where: they come from, to begin the sentence of an error with.

        Raises:
            VptError: an unknown name, or a value that makes no sense.
        """
        named = {"crop" if key == "crop_pct" else key: value for key, value in given.items()}
        own = self.to_dict()
        for key in named.keys() - own.keys():
            known = ", ".join(sorted({*own, "crop_pct"} - {"crop"}))
            raise VptError(f"backbone.preprocessing.{key} is none of {known}.")
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in named.items()}
        try:
            checked = PreprocessingFacts.model_validate(own | plain, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            # What is said of several values together has no place of its own.
            keys = [str(first["loc"][0])] if first["loc"] else sorted(plain)
            values = " and ".join(f"preprocessing.{key}={(own | plain)[key]!r}" for key in keys)
            said = first["msg"].removeprefix("Value error, ").lower()
            raise VptError(f"{where}{values} will not do: {said}.") from error
        return Preprocessing.from_dict(checked.model_dump())
