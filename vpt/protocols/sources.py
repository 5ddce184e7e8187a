"""The data sets of a protocol, their rows, and what can be known of both before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vpt import build
from vpt import data as data_sets
from vpt.config import Config
from vpt.data.base import DataSet
from vpt.data.pairs import PairSet
from vpt.errors import VptError
from vpt.options import options_of
from vpt.sweep import Row, check_label, make_row


class Source(NamedTuple):
    """A data set: its label in tables and paths, its section of the config, and what it changes there (key.path)."""

    label: str
    section: dict[str, Any]
    changes: dict[str, Any]


def sources(config: Config) -> list[Source]:
    """The data sets that are trained on: `datasets`, or `data` alone.

    The options of `data` that every data set has, such as shots, hold for each.

    Raises:
        VptError: two have one label.
    """
    shared = {key: value for key, value in config.data.items() if key in options_of(data_sets.load)}
    return _labelled(config.datasets or [config.data], config.data, shared, "datasets")


def targets(config: Config) -> list[Source]:
    """The data sets that are tested on alone, `targets`.

    Raises:
        VptError: there are none, two have one label, or one changes more than its own options.
    """
    if not config.targets:
        raise VptError("transfer has nothing to test on: give it targets: [NAME, …].")
    # How files are read holds for data sets that are only tested on too.
    shared = {key: value for key, value in config.data.items() if key in data_sets.READING}
    found = _labelled(config.targets, {}, shared, "targets")
    for target in found:
        if target.changes:
            key = next(iter(target.changes))
            raise VptError(f"targets: {target.label} changes {key}, and nothing is trained on it: leave {key} out.")
    return found


def labels(config: Config) -> list[str]:
    """Of the methods: the rows of `compare`, or the method's own name where there are none."""
    return list(config.compare) or [config.method["name"]]


def source_row(
    config: Config,
    source: Source,
    label: str,
    out: Path,
    *,
    within: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any],
) -> Row:
    """A row of `compare` on one data set, its runs below out/DATA/LABEL/`within`.

    Of what is said of a key the last counts: `config`, `before`, the data set's changes, the row's, `after`.

    Raises:
        VptError: a mistake in the row, or it changes what the protocol itself sets.
    """
    own = config.compare.get(label, {})
    for key in [*own, *own.get("select", config.select)]:
        if key in ("data", "data.name", *after):
            raise VptError(f"compare.{label} changes {key}, which is the same for all rows here: leave it out.")
    place = "/".join(part for part in (source.label, label, within) if part)
    changes = {**(before or {}), "data": source.section, **source.changes}
    return make_row(config, label, place, out, before=changes, after=after)


def unfinished(rows: Sequence[Row], *, overwrite: bool) -> list[Row]:
    """Those of which a run is still to be made."""
    return [row for row in rows if overwrite or not all((f / "result.json").is_file() for f in row.folders.values())]


def of_each_source(rows: Sequence[Row]) -> dict[str, Row]:
    """One row of each data set, by the data set's label."""
    return {row.place.partition("/")[0]: row for row in rows}


def look(config: Config, *, test: bool) -> DataSet:
    """A checked config's data, which are read to see that they are there; images are not decoded.

    Args:
        config: of the run.
        test: whether a test split is needed.

    Raises:
        VptError: something is missing, or the images have captions in place of classes.
    """
    data = build.list_data(config)
    if isinstance(data, PairSet):
        raise VptError(f"{data.name} has captions, and the protocols are of classes: name data sets with classes.")
    if test and data.test is None:
        raise VptError(f"{data.name} has no test split: give it data.test_fraction, or say --no-test.")
    return data


def check_new_classes(row: Row) -> None:
    """Nothing, if what the row learns goes with other classes.

    Raises:
        VptError: it does not.
    """
    try:
        build.check_new_classes(row.first())
    except VptError as error:
        raise VptError(f"compare.{row.label} cannot be tested on other classes: {error}") from error


def _labelled(
    entries: Sequence[Mapping[str, Any]], known: Mapping[str, Any], shared: Mapping[str, Any], where: str
) -> list[Source]:
    found: dict[str, Source] = {}
    for entry in entries:
        label = str(entry.get("as", entry["name"]))
        if "as" in entry:
            check_label(label, where)
        label = label.replace("/", "_")
        if label in found:
            raise VptError(f"{where} has two of the name {label}: tell them apart by {{name: …, as: LABEL}}.")
        inherited = known if entry["name"] == known.get("name") else shared
        own = {key: value for key, value in entry.items() if key != "as" and "." not in key}
        found[label] = Source(label, {**inherited, **own}, {k: v for k, v in entry.items() if "." in k})
    return list(found.values())
