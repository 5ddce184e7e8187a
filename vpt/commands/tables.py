"""compare, few-shot, base-to-new and transfer: tables of experiments; sweep: a search for options."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from vpt.commands.arguments import add, add_config, add_no_test, positive, read_config
from vpt.report.notes import say

TABLES = {
    "compare": "train several methods or seeds of one config, and print them as a table",
    "few-shot": "train methods on a few images of each class, for several numbers of them, data sets and seeds",
    "base-to-new": "train methods on half of the classes, and test them on these and on the names of the others",
    "transfer": "train methods on one data set, and test them on others (cross-data-set transfer), or on other "
    "domains of the same classes (domain generalisation)",
}


def add_to(commands: Any) -> None:
    """Add the parsers."""
    for name, text in TABLES.items():
        sub = add(commands, name, table, text)
        add_config(sub)
        sub.set_defaults(name=name)
        sub.add_argument("--row", action="append", default=[], metavar="LABEL", help="only this row; may be repeated")
        sub.add_argument("--overwrite", action="store_true", help="delete finished runs; otherwise they are read")
        add_no_test(sub)

    text = "search for the options that are best on validation images: all of a grid, or freely (Optuna)"
    sub = add(commands, "sweep", sweep, text)
    add_config(sub)
    sub.add_argument("--row", metavar="LABEL", help="the row of compare that is searched, where there are several")
    sub.add_argument("--trials", type=positive, metavar="N", help="of all processes (default: 50, or all of a grid)")
    text = "a URL (sqlite:///…, postgresql://…) or file that all processes share (default: study.journal in the folder)"
    sub.add_argument("--storage", metavar="URL", help=text)
    sub.add_argument("--prune", choices=["median", "hyperband", "none"], default="median", help="of a free search")


def table(given: argparse.Namespace) -> None:
    """Any of them."""
    settings = read_config(given)
    from vpt import protocols
    from vpt import sweep as tables
    from vpt.report.intervals import verdict
    from vpt.report.tables import print_table

    settings = tables.only(settings, given.row)
    make = tables.compare if given.name == "compare" else getattr(protocols, given.name.replace("-", "_"))
    rows = make(settings, test=not given.no_test, overwrite=given.overwrite, progress=not given.quiet)
    print_table(rows)
    if verdict(rows):
        say(verdict(rows))
    say(f"as Markdown, CSV and LaTeX: {settings.out}/table.md, table.csv, table.tex")
    if not given.no_test and Path(f"{settings.out}/intervals.md").is_file():
        say(f"95 % intervals, and which rows the test images tell apart: {settings.out}/intervals.md, .csv, .tex")
    if given.name == "compare":
        say(f"as a page: {settings.out}/table.html")


def sweep(given: argparse.Namespace) -> None:
    """`vpt sweep`."""
    settings = read_config(given)
    from vpt.report.tables import print_table
    from vpt.search import BEST, search

    how = {"row": given.row, "trials": given.trials, "storage": given.storage, "prune": given.prune}
    found = search(settings, **how, progress=not given.quiet)
    print_table([{"val": found["value"], "trials": len(found["trials"]), **found["chosen"]}])
    say(f"all trials: {settings.out}/table.md, table.csv, sweep.json")
    say(f"with these options, and measured on the test split: vpt train {shlex.quote(f'{settings.out}/{BEST}')}")
