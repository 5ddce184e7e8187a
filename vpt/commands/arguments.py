"""What several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], None]


def add(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """The parser of a command, which `command` carries out."""
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    sub.set_defaults(command=command)
    return sub


def add_config(sub: argparse.ArgumentParser) -> None:
    """A config, changes of it, and --quiet."""
    sub.add_argument("config", metavar="CONFIG", help="a YAML file; those in configs/ tell what they expect")
    sub.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", help="changes, e.g. train.epochs=10")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def add_no_test(sub: argparse.ArgumentParser) -> None:
    """--no-test."""
    sub.add_argument("--no-test", action="store_true", help="leave the test split alone, as trials should")


def add_existing(sub: argparse.ArgumentParser) -> None:
    """--resume or --overwrite."""
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="go on with the run that lies in the run directory")
    choice.add_argument("--overwrite", action="store_true", help="delete the run that lies in the run directory")


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)
