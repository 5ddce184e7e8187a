"""Methods of adaptation, one paper a file; a method is found by the `name` of its class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from vpt.errors import VptError, did_you_mean
from vpt.methods.base import Method
from vpt.methods.combined import AND, combined, names_in, separate
from vpt.trust import HOW, may_import

# Packages name classes of their own under it.
GROUP = "vpt.methods"


def available() -> dict[str, type[Method]]:
    """Every method of this package by its name."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {found.name: found for found in classes if issubclass(found, Method) and found.name}


@cache
def installed() -> Mapping[str, Any]:
    """Entry points of other packages' methods, by name; none is imported before it is asked for."""
    return {point.name: point for point in entry_points(group=GROUP)}


def find(name: str) -> type[Method]:
    """The class of the method `name`.

    Args:
        name: as `vpt list methods` shows, or of an entry point; "module:Class" for a class of one's own; several with +
            between them for a combination.

    Raises:
        VptError: there is none; the near name is suggested.
    """
    names = separate(name)
    if len(names) > 1:
        return combined([find(each) for each in names])
    if ":" in name:
        return _own(name)
    methods = available()
    if name in methods:
        return methods[name]
    if name in installed():
        return _checked(installed()[name].load(), name)
    raise VptError(
        f"there is no method {name!r}: {did_you_mean(name, [*methods, *installed()], see='vpt list methods')}"
    )


def called(method: Any) -> tuple[str, dict[str, Any]]:
    """The name of a method, as `find` takes it, and the options that were given with it.

    Args:
        method: a name, a class, a mapping of a name and options, or a list of such for a combination.

    Raises:
        TypeError: it is none of these.
        VptError: a class that is no method.
    """
    if isinstance(method, str):
        return method, {}
    if isinstance(method, type):
        return _name_of(method), {}
    if isinstance(method, list | tuple):
        parts = names_in([{"name": _name_of(each)} if isinstance(each, type) else each for each in method])
        if len(parts) == 1:
            return parts[0][0], dict(parts[0][1])
        return AND.join(name for name, _ in parts), {find(name).name: dict(given) for name, given in parts if given}
    if isinstance(method, Mapping) and isinstance(method.get("name"), str):
        return method["name"], {key: value for key, value in method.items() if key != "name"}
    raise TypeError(
        f"method={method!r} is a {type(method).__name__}, and should be a name, a class, or a list of such."
    )


def _name_of(kind: type) -> str:
    found = _checked(kind, kind.__qualname__)
    if available().get(found.name) is found:
        return found.name
    if found.name in installed() and installed()[found.name].load() is found:
        return found.name
    return f"{kind.__module__}:{kind.__qualname__}"


def _own(name: str) -> type[Method]:
    """A class by "module:Class"."""
    module, _, qualified = name.partition(":")
    if module not in sys.modules and not may_import():
        raise VptError(
            f"{name} is a method of another's package, which is not imported for a file's sake: import {module} "
            f"first; or, {HOW}."
        )
    try:
        found: Any = sys.modules[module] if module in sys.modules else import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise VptError(
            f"there is no method {name!r} ({error}): write package.module:Class, installed or in reach."
        ) from error
    return _checked(found, name)


def _checked(kind: Any, name: str) -> type[Method]:
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise VptError(f"{name} is no method: it has to be a class made from vpt.Method.")
    if not kind.name:
        raise VptError(f'{name} has no name: give the class name = "…", in lower case with hyphens.')
    return kind
