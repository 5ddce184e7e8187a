"""Local files of weights, known by their digest: where they lie is nobody else's affair, and differs by machine."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path

from vpt import digest, files
from vpt.errors import VptError
from vpt.facts import WeightsFile
from vpt.paths import cache_root, data_root


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


def _note(known_by: str) -> Path:
    return cache_root() / "weights" / known_by


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file, made once for as long as it does not change."""
    return digest.of_file(path)
