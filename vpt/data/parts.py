"""Data sets that others are made of, written as {name, options}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpt import data as datasets
from vpt.data.base import DataSet
from vpt.data.pairs import PairSet
from vpt.errors import VptError

# The whole checks its images and makes its missing splits itself.
AS_IT_IS = {"check": False, "val_fraction": 0.0, "test_fraction": 0.0}


def checked_part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Name and options of a part, checked without reading any data.

    Args:
        part: {name, options}.
        where: where it is written, to begin the sentence of an error with, e.g. "data.sources[0]".

    Raises:
        VptError: no name, no such data set or option, or a value of the wrong type.
    """
    name = part.get("name")
    if not isinstance(name, str):
        raise VptError(f"{where} has no name: write {{name: …}} with one of `vpt list datasets`.")
    options = {key: value for key, value in part.items() if key != "name"}
    return {"name": name} | datasets.checked_options(name, options, where)


def load_part(part: Mapping[str, Any], where: str) -> DataSet | PairSet:
    """The data set of a part with the splits that it has; others are made only where its options ask for them.

    Raises:
        VptError: as `checked_part` and `vpt.data.load` do.
    """
    return datasets.load(**AS_IT_IS | checked_part(part, where))
