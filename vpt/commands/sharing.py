"""push: what was learned, on the Hugging Face hub."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add
from vpt.report.notes import say


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "push", push, "share what a run learned on the Hugging Face hub, never the backbone")
    sub.add_argument("run", metavar="RUN", help="a run directory, or a saved model")
    sub.add_argument("repo", metavar="USER/NAME", help="the repository, which is made if need be")
    sub.add_argument("--license", metavar="NAME", help="of what was learned, as the hub names it, e.g. apache-2.0")
    sub.add_argument("--private", action="store_true", help="a new repository can be seen by you alone")
    sub.add_argument("--branch", metavar="NAME", help="push to it, in place of main")
    sub.add_argument("--pull-request", action="store_true", help="open a pull request in place of pushing")


def push(given: argparse.Namespace) -> None:
    """`vpt push`."""
    from vpt.sharing import push

    how = {"license": given.license, "branch": given.branch, "private": given.private or None}
    url = push(given.run, given.repo, **how, create_pr=given.pull_request or None)
    say(f"pushed: {url}")
    say(f"try: vpt predict {given.repo} IMAGES…")
