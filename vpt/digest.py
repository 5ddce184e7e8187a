"""Digests, by which damaged files are told from whole ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

SIZE = hashlib.sha256().digest_size


def of_file(path: str | Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits; the file is read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_bytes(content: bytes) -> str:
    """SHA-256 of `content`, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


class Sealing:
    """A binary file that is written to, and at the end sealed with the digest of all that was written."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content: Any) -> int:
        """Write some bytes."""
        self.digest.update(content)
        written: int = self.file.write(content)
        return written

    def flush(self) -> None:
        """Of the file."""
        self.file.flush()

    def seal(self) -> None:
        """Add the digest, `SIZE` bytes."""
        self.file.write(self.digest.digest())


def is_sealed(path: str | Path) -> bool:
    """Whether a file that `Sealing` wrote is as it was written."""
    size = Path(path).stat().st_size - SIZE
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (piece := file.read(min(size, 1 << 20))):
            digest.update(piece)
            size -= len(piece)
        return file.read() == digest.digest()
