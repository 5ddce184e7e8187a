"""Methods of adaptation, one paper a file; a method is found by the `name` of its class."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from vpt.errors import VptError, did_you_mean
from vpt.methods.base import Method


def available() -> dict[str, type[Method]]:
    """Every method by its name."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {found.name: found for found in classes if issubclass(found, Method) and found.name}


def find(name: str) -> type[Method]:
    """The class of the method `name`.

    Raises:
        VptError: there is none; the near name is suggested.
    """
    methods = available()
    if name not in methods:
        raise VptError(f"there is no method {name!r}: {did_you_mean(name, methods, see='vpt list methods')}")
    return methods[name]
