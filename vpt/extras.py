"""Libraries that a part of the package needs, and that are installed only where somebody asks for that part."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from vpt.errors import VptError


def needed(module: str, *, extra: str, what: str) -> ModuleType:
    """The module of a library.

    Args:
        module: its name.
        extra: of this package, with which it is installed.
        what: needs it, to begin the sentence of the error with.

    Raises:
        VptError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        package = f"'visual-prompt-tuning[{extra}]'"
        raise VptError(
            f"{what} needs {error.name}, which is not installed: pip install {package}, or pip install '.[{extra}]' "
            "where this package lies."
        ) from error
