"""Local files of weights, known by their digest: where they lie is nobody else's affair, and differs by machine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vpt import digest, files
from vpt.errors import VptError
from vpt.facts import WeightsFile
from vpt.paths import cache_root, data_root, resolve


def identified(path: Path) -> WeightsFile:
    """Name and digest of a file; where it lies is noted in this machine's cache, for `located`."""
    facts = path.stat()
    found = WeightsFile(name=path.name, digest=_digest(path, facts.st_size, facts.st_mtime_ns))
    # Without a cache that can be written to, weights have to be named again.
    with contextlib.suppress(VptError):
        files.write(_note(found.digest), f"{path.absolute()}\n")
    return found


def located(weights: WeightsFile) -> Path | None:
    """Where a file of weights lies: where it was last read from, or below VPT_DATA by its name; None if nowhere."""
    note = _note(weights.digest)
    noted = [Path(note.read_text(encoding="utf-8").strip())] if note.is_file() else []
    named = [data_root() / weights.name] if Path(weights.name).name == weights.name else []
    for candidate in (*noted, *named):
        if candidate.is_file():
            facts = candidate.stat()
            if _digest(candidate, facts.st_size, facts.st_mtime_ns) == weights.digest:
                return candidate
    return None


def portable(weights: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps of a file of weights: its name and its digest, and not where it lies.

    Raises:
        VptError: it is not there.
    """
    if isinstance(weights, Mapping):
        return checked(weights).model_dump()
    path = resolve(weights)
    if not path.is_file():
        raise VptError(f"weights={str(weights)!r} is a folder: name the file in it.")
    return identified(path).model_dump()


def checked(weights: Mapping[str, Any]) -> WeightsFile:
    """What a run kept of a file of weights.

    Raises:
        VptError: it is something else.
    """
    try:
        return WeightsFile.model_validate(weights)
    except ValidationError as error:
        raise VptError(
            "backbone.weights will not do: name a file, or give name and digest as a run keeps them."
        ) from error


def here(weights: str | Path | Mapping[str, Any] | None) -> str | Path | None:
    """Where a file of weights lies, of which a run may have kept name and digest alone.

    Raises:
        VptError: it is not found.
    """
    if not isinstance(weights, Mapping):
        return weights
    known = checked(weights)
    found = located(known)
    if found is None:
        raise VptError(
            f"the weights of the file {known.name!r} (SHA-256 {known.digest}) are not found here: say where it lies "
            "with backbone.weights=FILE."
        )
    return found


def _note(known_by: str) -> Path:
    return cache_root() / "weights" / known_by


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file, made once for as long as it does not change."""
    return digest.of_file(path)
