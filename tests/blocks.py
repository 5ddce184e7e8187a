"""The code blocks of README and docs: found, checked, and run where they stand, page by page."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from vpt import config
from vpt.cli import main, parser
from vpt.shipped import find_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: below the repository.
        line: of the page, at which its text begins.
        language: behind the fence.
        text: between the fences.
        reason: why it is not run, from the comment that stands before it; None where it is.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All of a page's."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text[: found.start("text")].count("\n") + 1, found["language"], found["text"], found["reason"])
        for found in BLOCK.finditer(text)
    ]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block, each as its words: comments, variables before them and "&" are left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in joined.splitlines():
        for part in re.split(r"&&|(?<!\d)>(?=\s)", line) if not line.startswith("#") else []:
            words = [word for word in shlex.split(part, comments=True) if word != "&"]
            while words and re.match(r"^[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                found.append(words)
            if ">" in part or re.search(r"\s>\s", line):
                break
    return found


def given(words: list[str]) -> argparse.Namespace:
    """The arguments of a `vpt` command, as the command line reads them."""
    known, rest = parser().parse_known_args(words[1:])
    assert all("=" in each and not each.startswith("-") for each in rest), f"{shlex.join(words)}: {rest}"
    if rest:
        known.overrides += rest
    return known


def quick(words: list[str]) -> list[str]:
    """A command of `vpt` that trains, with one epoch, one seed, two rows, few images and no rates to choose among.

    Others are as they are.
    """
    known = given(words)
    if known.called not in TRAINS:
        return words[1:]
    settings = config.read(find_config(known.config), known.overrides)
    # 2SFS has an epoch for each of its stages.
    epochs = 2 if settings.method["name"] == "2sfs" else 1
    found = [*words[1:], f"train.epochs={epochs}", *FEWER.get(settings.data["name"], [])]
    if known.called == "sweep":
        found += ["--trials", "2"]
    if known.called not in ("train", "pretrain", "sweep"):
        found += ["seeds=[1]", "select={}"]
        rows = settings.compare
        kept = [label for label in rows if label in ROWS] or list(rows)[:2]
        # JSON is YAML.
        found.append(f"compare={json.dumps({label: _without_select(rows[label]) for label in kept})}")
    return found


# What is drawn or comes along, with fewer images.
FEWER = {
    "things": ["data.train=2", "data.val=1", "data.test=1"],
    "scenes": ["data.train=32", "data.val=16", "data.test=16"],
    "digits": ["data.shots=1"],
}
# Of tables with many rows those that pages speak of.
ROWS = ("linear probe", "prompts")
TRAINS = ("train", "compare", "few-shot", "base-to-new", "transfer", "sweep", "pretrain")


def _without_select(row: Any) -> Any:
    return {key: value for key, value in row.items() if key != "select"}


def run(page: list[Block], names: dict[str, Any]) -> Iterator[Block]:
    """Run the blocks of a page in this folder, Python in one namespace; each is given back before it is run."""
    for block in page:
        if block.reason is not None:
            continue
        yield block
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec", dont_inherit=True), names)
        elif block.language == "sh":
            for words in commands(block.text):
                if words[0] == "vpt":
                    _run(words)


def _run(words: list[str]) -> None:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(quick(words))
    assert code == 0, f"{shlex.join(words)} ended with {code}:\n{said.getvalue()}"
