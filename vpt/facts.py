"""What a saved model says of itself in `vpt.json`: checked as configs are, since it may come from anywhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from vpt.errors import VptError

# 1: no number; weights of a file stand in the backbone's options with their path. 2: with digests.
FORMAT = 2

# The largest number among a method's options: what it makes of one (so many tokens) has to fit into memory.
LARGEST_OPTION = 10_000

Text = Annotated[str, Field(max_length=10_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}([0-9a-f]{32})?$")]
Side = Annotated[int, Field(ge=1, le=4096)]
# One number for each channel of images, of which most have three.
Channels = Annotated[list[FiniteFloat], Field(min_length=1, max_length=64)]
Deviations = Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1, max_length=64)]


class Part(BaseModel):
    """Strict types; keys that later versions may add are kept."""

    model_config = ConfigDict(strict=True, extra="allow")


class WeightsFile(Part):
    """The local file that the backbone's weights were read from, which may lie anywhere.

    Attributes:
        name: of the file, without its folder.
        digest: SHA-256 of its content.
    """

    name: Text
    digest: Digest


class BackboneFacts(Part):
    """Where the backbone is to be had, and what it is known by; `vpt.towers.saved` checks its options."""

    name: Text | None
    options: dict[str, Any] = {}
    fingerprint: Digest
    revision: Text | None = None
    dtype: Literal["fp32", "bf16"] = "fp32"
    weights: WeightsFile | None = None
    traits: dict[str, list[Any]] = {}


class MethodFacts(Part):
    """The method's name; beside it its options, whose types the method itself checks."""

    name: Text

    @model_validator(mode="after")
    def _of_sensible_size(self) -> MethodFacts:
        for key, value in (self.model_extra or {}).items():
            if isinstance(value, int | float) and not abs(value) <= LARGEST_OPTION:
                raise ValueError(f"its {key} is {value}, and none above {LARGEST_OPTION} makes sense")
        return self


class PreprocessingFacts(Part):
    """As in `vpt.preprocessing.Preprocessing`."""

    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    crop: Annotated[FiniteFloat, Field(gt=0.01, le=100)] = 1.0
    crop_mode: Literal["center", "squash", "border"] = "center"
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bicubic"
    mean: Channels
    std: Deviations

    @model_validator(mode="after")
    def _of_the_same_channels(self) -> PreprocessingFacts:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean is of {len(self.mean)} channels and std of {len(self.std)}; give a number for each")
        return self


class Facts(Part):
    """All of `vpt.json`.

    Attributes:
        format: which version of this schema was written; files without a number are of the first.
        head: "own" for a module that whoever loads the model has to bring.
        learned_classes: those that what belongs to classes was learned for, where they are others.
        tensors: SHA-256 of the file of tensors.
        digest: of all the rest, as `saving.digest_of` makes it.
    """

    format: Annotated[int, Field(ge=1)] = 1
    backbone: BackboneFacts
    method: MethodFacts
    head: Literal["linear", "text", "own"] = "linear"
    classes: list[Text]
    learned_classes: list[Text] | None = None
    templates: list[Text] = ["a photo of a {}."]
    preprocessing: PreprocessingFacts
    parameters: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    about: dict[str, Any] = {}
    tensors: Digest | None = None
    digest: Digest | None = None

    @model_validator(mode="after")
    def _whole(self) -> Facts:
        if self.format >= 2 and not (self.tensors and self.digest):
            raise ValueError("its digests are missing")
        return self


def checked_facts(values: Any, where: str) -> Facts:
    """`values` as the schema takes them.

    Args:
        values: what `vpt.json` holds.
        where: its path, for errors.

    Raises:
        VptError: something is missing or makes no sense, or a newer version wrote the file.
    """
    number = values.get("format", 1) if isinstance(values, dict) else 1
    if isinstance(number, int) and number > FORMAT:
        raise VptError(
            f"{where} has format {number}, and this version of vpt reads up to {FORMAT}: install a newer one."
        )
    try:
        return Facts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ").lower()
        found = "is missing" if first["type"] == "missing" else f"will not do ({said})"
        raise VptError(
            f"{where} is no description of a tuned model: {key or 'what it holds'} {found}; "
            "save or download the model again."
        ) from error
