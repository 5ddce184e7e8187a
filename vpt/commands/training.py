"""train, fit-batch and pretrain: one experiment of a config."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add, add_config, add_existing, add_no_test, positive


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
    from vpt import config, experiment
    from vpt.report.tables import print_table, result_rows

    settings = config.read(given.config, given.overrides)
    how = {"resume": given.resume, "overwrite": given.overwrite, "test": not given.no_test}
    _, result = experiment.train(settings, **how, progress=not given.quiet)
    print_table(result_rows({str(settings.out): [result]}))
    print(f"try: vpt predict {settings.out} IMAGES…")


def fit_batch(given: argparse.Namespace) -> None:
    """`vpt fit-batch`."""
    from vpt import config, experiment

    found = experiment.fit_batch(config.read(given.config, given.overrides), limit=given.max, progress=not given.quiet)
    print("train:")
    for key, value in found.items():
        print(f"  {key}: {value}")
    print("# or: " + " ".join(f"train.{key}={value}" for key, value in found.items()))


def pretrain(given: argparse.Namespace) -> None:
    """`vpt pretrain`."""
    from vpt import config
    from vpt.pretrain import pretrain

    settings = config.read(given.config, given.overrides)
    folder = pretrain(settings, resume=given.resume, overwrite=given.overwrite, progress=not given.quiet)
    print(f"backbone written to {folder}")
