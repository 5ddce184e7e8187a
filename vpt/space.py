"""What a search chooses among: for each option a list of values, or a range of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vpt.errors import VptError
from vpt.values import untyped

Point = dict[str, Any]


class Range(BaseModel):
    """Numbers from `low` to `high`, both of which count.

    Attributes:
        low: whole numbers are drawn where this and `high` are such.
        high: likewise.
        log: draw the logarithm evenly, as for learning rates.
        step: draw `low`, and what is so many steps above it, alone.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low is not below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log wants a low above 0, and no step")
        if self.step is not None and self.step <= 0:
            raise ValueError("step is not above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float)


Choices = list[Any] | Range
Space = Mapping[str, Choices]


def space_of(select: Mapping[str, Any], search: Mapping[str, Any]) -> Space:
    """What `select` and `search` of a config name, by option.

    Raises:
        VptError: nothing is named, or what is makes no sense.
    """
    given: dict[str, Any] = {**select, **search}
    if not given:
        raise VptError(
            "there is nothing to search: give the config search: {train.lr: {low: 0.001, high: 1, log: true}, …}, or "
            "select: {train.lr: [0.001, 0.01], …} for all of a grid."
        )
    return {key: _choices(key, untyped(value)) for key, value in given.items()}


def check_space(space: Space, check: Callable[[Point], Any]) -> None:
    """Have `check` see a point with each of the values, or with the ends of the range, of each option by turns.

    Raises:
        VptError: what `check` raises of one that will not do.
    """
    first = {key: _ends(choices)[0] for key, choices in space.items()}
    for key, choices in space.items():
        for value in _ends(choices):
            check({**first, key: value})


def _choices(key: str, value: Any) -> Choices:
    if isinstance(value, list):
        if not value:
            raise VptError(f"search.{key} names no values: give it some, or leave it out.")
        return value
    try:
        return Range.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        part = ".".join(map(str, (key, *first["loc"][:1])))
        said = first["msg"].removeprefix("Value error, ").lower()
        raise VptError(
            f"search.{part} will not do ({said}): give a list of values, or {{low: …, high: …, log: true}}."
        ) from error


def _ends(choices: Choices) -> list[Any]:
    return choices if isinstance(choices, list) else [choices.low, choices.high]
