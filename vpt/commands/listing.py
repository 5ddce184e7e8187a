"""list, configs and inspect: what there is."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add, add_trust
from vpt.errors import VptError
from vpt.shipped import command, purpose, shipped


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "list", show_list, "list what there is")
    sub.add_argument("what", choices=["methods", "backbones", "datasets"])
    sub.add_argument("pattern", nargs="?", default="", help="only names that hold this text")

    sub = add(commands, "configs", configs, "list the configs that come with vpt, or print one to change it")
    sub.add_argument("pattern", nargs="?", default="", help="only names that hold this text; of one config all of it")

    text = "show a backbone's shape, and which path each of its blocks takes and why"
    sub = add(commands, "inspect", inspect, text)
    sub.add_argument("backbone", metavar="BACKBONE", help="library/model, e.g. vpt/vit-nano")
    add_trust(sub)


def show_list(given: argparse.Namespace) -> None:
    """`vpt list`."""
    from vpt import listing
    from vpt.report.tables import print_table

    rows = listing.listing(given.what, given.pattern)
    if not rows:
        raise VptError(f"no {given.what} match {given.pattern!r}: see `vpt list {given.what}` for all.")
    print_table(rows)


def configs(given: argparse.Namespace) -> None:
    """`vpt configs`."""
    from vpt.report.tables import print_table

    there = shipped()
    if given.pattern in there:
        print(there[given.pattern].read_text(encoding="utf-8"), end="")
        return
    found = {name: path for name, path in there.items() if given.pattern in name}
    if not found:
        raise VptError(f"no configs match {given.pattern!r}: see `vpt configs` for all.")
    print_table([{"command": f"vpt {command(path)} {name}", "what": purpose(path)} for name, path in found.items()])


def inspect(given: argparse.Namespace) -> None:
    """`vpt inspect`."""
    from vpt import listing
    from vpt.report.tables import print_table

    print_table(listing.inspect(given.backbone))
