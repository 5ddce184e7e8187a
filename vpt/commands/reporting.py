"""report: a page about runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vpt.commands.arguments import add, add_limits, not_negative, set_up
from vpt.report.notes import say

PAGE = "report.html"


def add_to(commands: Any) -> None:
    """Add the parser."""
    sub = add(commands, "report", report, "write one HTML page about a run, or about several side by side")
    sub.add_argument("runs", nargs="+", metavar="RUN", help="finished run directories")
    text = f"the page (default: {PAGE} in the run, and of several in the working folder)"
    sub.add_argument("--out", metavar="FILE", help=text)
    text = "thumbnails of mistakes, and of least sure hits (default: %(default)s)"
    sub.add_argument("--images", type=not_negative, default=12, metavar="N", help=text)
    sub.add_argument("--overwrite", action="store_true", help="write over a page that is there")
    sub.add_argument("--weights", metavar="FILE", help="the backbone's weights, where they are not had by its name")
    add_limits(sub)


def report(given: argparse.Namespace) -> None:
    """`vpt report`."""
    set_up(given)
    from vpt import reporting

    how = {"images": given.images, "overwrite": given.overwrite, "weights": given.weights, "device": given.device}
    runs = list(dict.fromkeys(map(Path, given.runs)))
    out = reporting.report(runs, given.out or (runs[0] / PAGE if len(runs) == 1 else PAGE), **how)
    say(f"report written to {out}, {out.stat().st_size / 1e6:.1f} MB: open it in a browser")
