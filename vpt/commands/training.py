"""train, fit-batch and pretrain: one experiment of a config."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

from vpt.commands.arguments import add, add_config, add_existing, add_no_test, positive, read_config
from vpt.config import TABLES
from vpt.report.notes import say, tell


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "train", train, "train one experiment, and measure it on the test split")
    add_config(sub)
    add_existing(sub)
    add_no_test(sub)

    text = "find the largest batch that fits into memory, at as many images a step"
    sub = add(commands, "fit-batch", fit_batch, text)
    add_config(sub)
    sub.add_argument("--max", type=positive, metavar="N", help="the largest batch to try; on a CPU it must be given")

    sub = add(commands, "pretrain", pretrain, "train a backbone from scratch, and write it")
    add_config(sub)
    add_existing(sub)


def train(given: argparse.Namespace) -> None:
    """`vpt train`."""
    settings = read_config(given)
    tell_tables(given.overrides)
    from vpt import experiment
    from vpt.report.tables import print_table, result_rows

    how = {"resume": given.resume, "overwrite": given.overwrite, "test": not given.no_test}
    _, result = experiment.train(settings, **how, progress=not given.quiet)
    print_table(result_rows({str(settings.out): [result]}))
    say(f"try: vpt predict {shlex.quote(str(settings.out))} IMAGES…")


def tell_tables(overrides: Sequence[str]) -> None:
    """Say which keys that were asked for make a table, and are not read by a command of one experiment."""
    asked = {assignment.partition("=")[0].partition(".")[0] for assignment in overrides}
    tables = sorted(asked & set(TABLES))
    if tables:
        tell(f"{', '.join(tables)}: one experiment does not read this, tables of them do, such as vpt compare.")


def fit_batch(given: argparse.Namespace) -> None:
    """`vpt fit-batch`."""
    settings = read_config(given)
    from vpt import experiment

    found = experiment.fit_batch(settings, limit=given.max, progress=not given.quiet)
    say("train:")
    for key, value in found.items():
        say(f"  {key}: {value}")
    say("# or: " + " ".join(f"train.{key}={value}" for key, value in found.items()))


def pretrain(given: argparse.Namespace) -> None:
    """`vpt pretrain`."""
    settings = read_config(given)
    tell_tables(given.overrides)
    from vpt.pretrain import pretrain

    folder = pretrain(settings, resume=given.resume, overwrite=given.overwrite, progress=not given.quiet)
    say(f"backbone written to {folder}")
