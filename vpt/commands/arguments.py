"""What several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from vpt import config
from vpt.early import check_early
from vpt.errors import VptError
from vpt.shipped import find_config

if TYPE_CHECKING:
    from vpt.config import Config

MOST_DIGITS = 19

# Returns the exit code where it is not 0.
Command = Callable[[argparse.Namespace], int | None]


class Parser(argparse.ArgumentParser):
    """One that tells a mistake in one line, and takes options by their whole names alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake.

        Raises:
            VptError: always.
        """
        raise VptError(
            f"{message.removesuffix('.')}." if " --help" in message else f"{message}: see {self.prog} --help."
        )


def add(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """The parser of a command, which `command` carries out."""
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    sub.set_defaults(command=command)
    return sub


def add_config(sub: argparse.ArgumentParser) -> None:
    """A config, changes of it, and options of every run."""
    sub.add_argument("config", metavar="CONFIG", help="a YAML file, or a name that `vpt configs` lists")
    sub.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", help="changes, e.g. train.epochs=10")
    add_limits(sub)
    add_processes(sub)
    sub.add_argument("--quiet", action="store_true", help="no progress")


def add_run(sub: argparse.ArgumentParser, what: str) -> None:
    """A run, the weights of its backbone, and options of all that is done with one."""
    sub.add_argument("run", metavar="RUN", help=what)
    sub.add_argument("--weights", metavar="FILE", help="the backbone's weights, where they are not had by its name")
    add_limits(sub)


def add_limits(sub: argparse.ArgumentParser) -> None:
    """--device, --max-pixels and --trust-remote-code."""
    sub.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps, …; a GPU by default where there is one")
    text = "decode images of up to so many pixels (by default 89 million, against files made to fill the memory)"
    sub.add_argument("--max-pixels", type=positive, metavar="N", help=text)
    add_trust(sub)


def add_processes(sub: argparse.ArgumentParser) -> None:
    """--processes."""
    text = "work in so many processes, each with a GPU, or a part of the CPU where there is none"
    sub.add_argument("--processes", type=positive, metavar="N", help=text)


def add_trust(sub: argparse.ArgumentParser) -> None:
    """--trust-remote-code."""
    text = "run Python code that the backbone's repository or folder brings, if you trust it"
    sub.add_argument("--trust-remote-code", action="store_true", help=text)


def add_no_test(sub: argparse.ArgumentParser) -> None:
    """--no-test."""
    sub.add_argument("--no-test", action="store_true", help="leave the test split alone, as trials should")


def add_existing(sub: argparse.ArgumentParser) -> None:
    """--resume or --overwrite."""
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="go on with the run that lies in the run directory")
    choice.add_argument("--overwrite", action="store_true", help="delete the run that lies in the run directory")


def read_config(given: argparse.Namespace) -> Config:
    """The config that was named, with its changes. Torch takes seconds to import: a mistake in it is told before.

    Raises:
        VptError: a mistake in it, or the device is not there.
    """
    settings = config.read(find_config(given.config), given.overrides)
    check_early(settings)
    set_up(given)
    return settings


def set_up(given: argparse.Namespace) -> None:
    """Set what holds for all that is done: --device and --max-pixels."""
    if given.device is not None:
        from vpt.devices import train_on

        train_on(given.device)
    if given.max_pixels is not None:
        from vpt.images import limit_pixels

        limit_pixels(given.max_pixels)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not not_negative(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS):
        raise argparse.ArgumentTypeError(f"{text[:MOST_DIGITS]!r} is no whole number from 0")
    return int(text)


def loading(given: argparse.Namespace) -> dict[str, Any]:
    """How a model is loaded, from the options of `add_run`."""
    set_up(given)
    return {"weights": given.weights, "device": given.device}
