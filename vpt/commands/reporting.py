"""report: a page about runs."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add, add_limits, not_negative, set_up
from vpt.report.notes import say


def add_to(commands: Any) -> None:
    """Add the parser."""
    sub = add(commands, "report", report, "write one HTML page about a run, or about several side by side")
    sub.add_argument("runs", nargs="+", metavar="RUN", help="finished run directories")
    sub.add_argument("--out", default="report.html", metavar="FILE", help="the page (default: %(default)s)")
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
    out = reporting.report(given.runs, given.out, **how)
    say(f"report written to {out}, {out.stat().st_size / 1e6:.1f} MB: open it in a browser")
