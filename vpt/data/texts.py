"""Text and JSON files, read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vpt.errors import VptError


def read_text(file: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        VptError: it is a folder, cannot be read, or is no such text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise VptError(f"{file} is no text file in UTF-8: name one, or save it as such.") from error
    except OSError as error:
        raise VptError(f"{file} cannot be read ({error.strerror}): put it there, or correct its rights.") from error


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        VptError: it is no JSON.
    """
    return parse_json(read_text(file), str(file), "download it again, or mend it")


def parse_json(text: str, place: str, remedy: str = "mend it") -> Any:
    """What JSON text holds.

    Raises:
        VptError: it is none; also where it is nested too deep, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VptError(f"{place} is no JSON ({error}): {remedy}.") from error
