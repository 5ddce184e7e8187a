"""words, attention, list and inspect: looks inside, and what there is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from vpt.commands.arguments import add, positive
from vpt.errors import VptError


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "words", words, "show which words a learned context is nearest to")
    sub.add_argument("run", metavar="RUN", help="a run directory or a saved model, of a method with learned context")
    sub.add_argument("--top", type=positive, default=5, metavar="K", help="words a token (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print one JSON object a line")

    sub = add(commands, "attention", attention, "draw where the read-out token and the prompts look, block by block")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or an image-text backbone")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of a few")
    sub.add_argument("--out", required=True, metavar="FILE", help="the picture, e.g. attention.png or attention.pdf")
    sub.add_argument("--blocks", nargs="+", type=int, metavar="N", help="blocks to show, from 0; else all")
    sub.add_argument("--each-prompt", action="store_true", help="show each prompt by itself too")
    sub.add_argument("--overwrite", action="store_true", help="write over a picture that is there")

    sub = add(commands, "list", show_list, "list what there is")
    sub.add_argument("what", choices=["methods", "backbones", "datasets"])
    sub.add_argument("pattern", nargs="?", default="", help="only names that hold this text")

    text = "show a backbone's shape, and which path each of its blocks takes and why"
    sub = add(commands, "inspect", inspect, text)
    sub.add_argument("backbone", metavar="BACKBONE", help="library/model, e.g. vpt/vit-nano")


def words(given: argparse.Namespace) -> None:
    """`vpt words`."""
    from vpt import use
    from vpt.report.tables import print_table

    rows = use.words(given.run, top=given.top)
    if given.json:
        for row in rows:
            near = [{"word": word, "distance": distance} for word, distance in row["words"]]
            print(json.dumps(row | {"words": near}, ensure_ascii=False))
        return
    print_table([{key: row[key] for key in row if key != "words"} | _near(row["words"]) for row in rows])


def _near(words: Sequence[tuple[str, float]]) -> dict[str, str]:
    return {f"{rank}.": f"{word} {distance:.3f}" for rank, (word, distance) in enumerate(words, 1)}


def attention(given: argparse.Namespace) -> None:
    """`vpt attention`."""
    from vpt import use

    how = {"blocks": given.blocks, "each_prompt": given.each_prompt, "overwrite": given.overwrite}
    use.attention(given.run, given.images, given.out, **how)
    print(f"attention drawn to {given.out}")


def show_list(given: argparse.Namespace) -> None:
    """`vpt list`."""
    from vpt import use
    from vpt.report.tables import print_table

    rows = use.listing(given.what, given.pattern)
    if not rows:
        raise VptError(f"no {given.what} match {given.pattern!r}: leave the pattern out to see all.")
    print_table(rows)


def inspect(given: argparse.Namespace) -> None:
    """`vpt inspect`."""
    from vpt import use
    from vpt.report.tables import print_table

    print_table(use.inspect(given.backbone))
