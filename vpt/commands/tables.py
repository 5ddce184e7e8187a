"""compare, few-shot, base-to-new and transfer: tables of experiments."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add, add_config, add_no_test, read_config
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


def table(given: argparse.Namespace) -> None:
    """Any of them."""
    settings = read_config(given)
    from vpt import protocols, sweep
    from vpt.report.intervals import verdict
    from vpt.report.tables import print_table

    settings = sweep.only(settings, given.row)
    make = sweep.compare if given.name == "compare" else getattr(protocols, given.name.replace("-", "_"))
    rows = make(settings, test=not given.no_test, overwrite=given.overwrite, progress=not given.quiet)
    print_table(rows)
    if verdict(rows):
        say(verdict(rows))
    say(f"as Markdown, CSV and LaTeX: {settings.out}/table.md, table.csv, table.tex")
