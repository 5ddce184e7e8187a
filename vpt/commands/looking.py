"""words and attention: looks inside a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from vpt.commands.arguments import add, add_run, loading, positive
from vpt.report.notes import say


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "words", words, "show which words a learned context is nearest to")
    add_run(sub, "a run directory or a saved model, of a method with learned context")
    sub.add_argument("--top", type=positive, default=5, metavar="K", help="words a token (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print one JSON object a line")

    sub = add(commands, "attention", attention, "draw where the read-out token and the prompts look, block by block")
    add_run(sub, "a run directory, a saved model, or an image-text backbone")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of a few")
    sub.add_argument("--out", required=True, metavar="FILE", help="the picture, e.g. attention.png or attention.pdf")
    sub.add_argument("--blocks", nargs="+", type=int, metavar="N", help="blocks to show, from 0; else all")
    sub.add_argument("--each-prompt", action="store_true", help="show each prompt by itself too")
    sub.add_argument("--overwrite", action="store_true", help="write over a picture that is there")


def words(given: argparse.Namespace) -> None:
    """`vpt words`."""
    from vpt import use
    from vpt.report.tables import print_table

    rows = use.words(given.run, top=given.top, **loading(given))
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
    use.attention(given.run, given.images, given.out, **how, **loading(given))
    say(f"attention drawn to {given.out}")
