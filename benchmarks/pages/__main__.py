"""Write what docs and README have of the code: a page and a picture of each method, their table, keys, a chart."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pages import accuracy, config, methods
from benchmarks.pages.facts import ROOT, facts
from vpt.methods import available


def made() -> Iterator[tuple[Path, str]]:
    """Each file, with what is to stand in it."""
    logging.getLogger().setLevel(logging.ERROR)  # open_clip says of each random model that it is one
    everything = [facts(name) for name in sorted(available())]
    docs = ROOT / "docs"
    yield docs / "images" / "accuracy.svg", accuracy.chart()
    yield docs / "config.md", put((docs / "config.md").read_text(encoding="utf-8"), config.tables())
    tables = {ROOT / "README.md": "docs/methods/", docs / "methods.md": "methods/"}
    for path, below in tables.items():
        yield path, put(path.read_text(encoding="utf-8"), methods.tables(everything, below))
    for each in everything:
        yield from ((docs / "methods" / name, text) for name, text in methods.files(each).items())


def put(page: str, block: str) -> str:
    """A page with what stands between the two marks made anew."""
    before, _, rest = page.partition(methods.BEGIN)
    _, _, after = rest.partition(methods.END)
    return before + block + after


def main() -> int:
    """Write them all; returns the exit code."""
    for path, text in made():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
