"""What a finished run came to, result.json, checked before it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vpt.errors import VptError

FORMAT = 1
Share = Field(ge=0, le=1)


class DataFacts(BaseModel):
    """Which images a run was of."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    sizes: dict[str, int]
    digests: dict[str, str]


class Calibration(BaseModel):
    """Errors of a split's probabilities, as they are and at the temperature."""

    model_config = ConfigDict(extra="allow", strict=True)

    ece: float
    nll: float
    ece_calibrated: float | None = None
    nll_calibrated: float | None = None
    top1_interval: list[float] = []


class Unknown(BaseModel):
    """What `vpt eval --unknown` found."""

    model_config = ConfigDict(extra="allow", strict=True)

    score: str
    folder: str
    unknown: int = Field(ge=0)
    auroc: float = Share
    auroc_low: float
    auroc_high: float
    fpr95: float = Share


class Point(BaseModel):
    """A place on the line from frozen to tuned."""

    model_config = ConfigDict(extra="allow", strict=True)

    share: float
    top1: float = Share
    low: float
    high: float


class Line(BaseModel):
    """What `vpt eval --line` found."""

    model_config = ConfigDict(extra="allow", strict=True)

    of: str
    points: dict[str, Annotated[list[Point], Field(min_length=1)]]


class Trust(BaseModel):
    """How far a result can be relied on."""

    model_config = ConfigDict(extra="allow", strict=True)

    temperature: float = Field(default=1.0, gt=0)
    val: Calibration | None = None
    test: Calibration | None = None
    unknown: Unknown | None = None
    line: Line | None = None

    @model_validator(mode="after")
    def _calibrated(self) -> Trust:
        found = [each for each in (self.val, self.test) if each is not None]
        if "temperature" in self.model_fields_set and (
            self.val is None or any(each.ece_calibrated is None or each.nll_calibrated is None for each in found)
        ):
            raise ValueError("a temperature without what it makes of validation images")
        return self


class Result(BaseModel):
    """The fields of result.json.

    Attributes:
        format: of the file.
        method: its name.
        backbone: its name.
        data: which images.
        seed: of the run.
        best_epoch: that was kept; 0 where nothing is trained.
        stopped_early: whether patience ended it.
        val: figures on validation images; none without any.
        test: figures on the test split; none where it was left alone.
        confusion: counts (C, C) of the test split.
        tuned_parameters: how many numbers are trained.
        share: of all parameters.
        seconds: of training and validation.
        bytes: of the file of what is trained.
        trust: how far it can be relied on: the temperature that validation images gave, calibration before and after,
            intervals; and what `vpt eval` was asked for beside, "unknown" images and the "line" from frozen to tuned.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    method: str
    backbone: str
    data: DataFacts
    seed: int
    best_epoch: int = Field(ge=0)
    stopped_early: bool
    val: dict[str, float]
    test: dict[str, float]
    confusion: list[list[int]] | None
    tuned_parameters: int = Field(ge=0)
    share: float = Share
    seconds: float = Field(ge=0)
    bytes: int = Field(ge=0)
    trust: Trust = Trust()

    @model_validator(mode="after")
    def _whole(self) -> Result:
        counts = self.confusion or []
        if any(len(row) != len(counts) or min(row) < 0 for row in counts):
            raise ValueError("confusion is no table of counts, a row and a column for each class")
        if "top1" in self.test and "test" not in self.data.sizes:
            raise ValueError("figures of the test split, and not how many images it has")
        return self


class Row(BaseModel):
    """An epoch in metrics.jsonl: numbers by name. A method that trains nothing has one row, of epoch 0."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float]

    epoch: int = Field(ge=0)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; none where a run has none.

    Raises:
        VptError: it is damaged.
    """
    if not path.is_file():
        return []
    try:
        return [Row.model_validate_json(line).model_dump() for line in path.read_bytes().splitlines()]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a row"
        raise VptError(f"{path} is damaged ({where}: {first['msg'].lower()}): --resume writes it anew.") from error


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file.

    Raises:
        VptError: it is damaged, or of a later version.
    """
    return read_json(path, Result, "run it again with --overwrite")


def read_json(path: Path, schema: type[BaseModel], remedy: str) -> dict[str, Any]:
    """The values in a JSON file, if they are as `schema` says.

    Raises:
        VptError: they are not, or the file cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise VptError(f"{path} is damaged ({where}: {first['msg'].lower()}): {remedy}.") from error
    except (ValueError, OSError) as error:
        raise VptError(f"{path} is damaged ({' '.join(str(error).split())}): {remedy}.") from error
    return values
