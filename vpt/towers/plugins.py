"""Towers of other packages, which name themselves by an entry point of the group `vpt.towers`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vpt.errors import VptError

GROUP = "vpt.towers"


@cache
def plugins() -> dict[str, EntryPoint]:
    """Entry points by their names, which are the names of libraries, as in "acme/model"."""
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def plugin(name: str) -> Any:
    """What an entry point names: a module or a class with `wrap`, and `load` and `names` where it has models by name.

    Raises:
        VptError: it cannot be imported, or has no `wrap`.
    """
    point = plugins()[name]
    where = f"the entry point {name} = {point.value!r} of the group {GROUP}"
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise VptError(
            f"{where} cannot be imported ({error}): correct or uninstall the package that has it."
        ) from error
    if not callable(getattr(found, "wrap", None)):
        raise VptError(f"{where} has no function wrap(model), which gives a Backbone, or None of a model not its own.")
    return found
