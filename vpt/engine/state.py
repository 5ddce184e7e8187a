"""The state of a run that it goes on from: one file, checked before it is believed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from vpt.digest import Sealing, is_sealed
from vpt.errors import VptError
from vpt.files import make_folder, replacing, told

FORMAT = 2


class Best(BaseModel):
    """The epoch that is kept so far, its figures on validation images, and what was learned by then."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", strict=True)

    epoch: int = Field(ge=1)
    metrics: dict[str, float]
    tuned: dict[str, Tensor]


class State(BaseModel):
    """All that a run goes on from; whatever else lies in its folder follows from it.

    Attributes:
        format: of the file.
        processes: that train together.
        backbone: fingerprint of the frozen weights.
        asked: `fit`'s arguments that the numbers depend on.
        data: sizes and digests of what is trained and validated on.
        tuned: what is trained, by name.
        optimizer: its state.
        average: of what is trained, where there is one.
        scaler: of the loss, in half precision.
        history: a row for each epoch.
        best: the epoch that is kept.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", strict=True)

    format: Literal[2]
    processes: int = Field(ge=1)
    backbone: str
    asked: dict[str, Any]
    data: dict[str, Any]
    tuned: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: dict[str, Tensor]
    scaler: dict[str, Any]
    history: list[dict[str, Any]] = Field(min_length=1)
    best: Best


def write_state(path: Path, values: Mapping[str, Any]) -> None:
    """Write a state with its digest behind it; the file is there whole or as it was before.

    Raises:
        VptError: it cannot be written.
    """
    make_folder(path.parent)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        sealing = Sealing(file)
        try:
            torch.save(_anew({"format": FORMAT, **values}), cast("IO[bytes]", sealing))
        except RuntimeError as error:
            # torch wraps what the system says.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        sealing.seal()


def _anew(values: Any) -> Any:
    """`values` as objects that share nothing but equal strings.

    A file refers back to an object that it has met. Which are one object is another matter in a run that was gone on
    with, and its files are to have the same bytes.
    """
    if isinstance(values, Mapping):
        return {_anew(key): _anew(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_anew(value) for value in values)
    return sys.intern(values) if type(values) is str else values


def read_state(path: Path) -> State:
    """The state in a file, on the CPU.

    Raises:
        VptError: the file is damaged, or of another format.
    """
    again = "the run cannot be resumed from it: begin again with overwrite."
    with told(path):
        if not is_sealed(path):
            raise VptError(f"{path} is damaged (its digest is another), or of an earlier version, and {again}")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        raise VptError(f"{path} is not what a run writes, and {again}") from error
    try:
        return State.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise VptError(f"{path} is not what this version writes ({where}), and {again}") from error
