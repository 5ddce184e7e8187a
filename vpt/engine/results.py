"""What a finished run came to, result.json, checked before it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vpt.errors import VptError

FORMAT = 1
Share = Field(ge=0, le=1)


class DataFacts(BaseModel):
    """Which images a run was of."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    sizes: dict[str, int]
    digests: dict[str, str]


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
    trust: dict[str, Any] = {}


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
