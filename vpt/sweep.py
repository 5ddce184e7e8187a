"""Many runs of one config: rows and seeds in a table, and options selected on validation images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from pydantic import BaseModel, RootModel

from vpt import build, experiment, files
from vpt import config as configs
from vpt.config import Config
from vpt.engine.folder import LOCK, MINUTE, RESULT, Lock
from vpt.engine.outputs import read_hits
from vpt.engine.results import read_json, read_result
from vpt.errors import DivergedError, VptError, did_you_mean
from vpt.processes import on_main
from vpt.report.comparison import comparison
from vpt.report.intervals import Measured, with_intervals
from vpt.report.progress import labelled
from vpt.report.tables import comma_separated, latex, markdown, result_rows

Point = dict[str, Any]

# What lies in the folder of a table, beside the runs of its rows.
WRITTEN = [f"{name}.{ending}" for name in ("table", "intervals") for ending in ("md", "csv", "tex")]
OWN = ("trials", "selection.json", "table.html", *WRITTEN)


class Selection(BaseModel):
    """What a row was selected by: the seeds, every point with its figures, and the best one."""

    seeds: list[int]
    trials: list[dict[str, Any]]
    chosen: Point


class Selections(RootModel[dict[str, Selection]]):
    """Those of all rows, by place."""


class Row(NamedTuple):
    """A row of the table: plain values of its config, what to select among, and where the runs of its seeds lie.

    `place` is the row's own part of these paths.
    """

    label: str
    place: str
    values: dict[str, Any]
    grid: list[Point]
    folders: dict[int, Path]
    select_seeds: list[int]
    out: Path

    def config(self, point: Point, seed: int, folder: Path) -> Config:
        """The checked config of one run."""
        values = self.values
        for key, value in point.items():
            values = configs.assign(values, key, value)
        return build.check(configs.parse({**values, "seed": seed, "out": str(folder)}, f"compare.{self.label}"))

    def first(self) -> Config:
        """That of its first seed and point."""
        seed, folder = next(iter(self.folders.items()))
        return self.config(self.grid[0], seed, folder)


class Run(NamedTuple):
    """A finished run, and what result.json holds."""

    config: Config
    result: dict[str, Any]


def compare(
    config: Config, *, test: bool = True, overwrite: bool = False, progress: bool = True
) -> list[dict[str, Any]]:
    """Run every row of `config.compare` with every seed; runs that are finished are read, not run again.

    Where there are values to `select` among, each combination is first run with `select_seeds` and the test split
    left alone; the best mean top-1 on validation images wins, and of equals the smaller value. What was seen is kept
    in selection.json.

    Args:
        config: the experiments.
        test: measure the test split of the rows, also of finished runs that left it alone.
        overwrite: delete finished runs.
        progress: show it.

    Returns:
        A table with a row a label, also written as table.md, table.csv, table.tex and, as a page with pictures,
        table.html.

    Raises:
        VptError: a mistake in a row, told before any is run, or a run that was made with another config.
    """
    if not config.compare:
        raise VptError("the config has no rows to compare: give it compare: {label: {method: …}, …}.")
    out = config.out or Path("runs/compare")
    rows = [make_row(config, label, label, out) for label in config.compare]
    runs = {row.label: finish(row, test=test, overwrite=overwrite, progress=progress) for row in rows}
    results = {label: [run.result for run in each] for label, each in runs.items()}
    tested = _known({label: measured(each) for label, each in runs.items()})
    table = with_intervals(result_rows(results), tested)
    write_tables(out, table)
    whole = len(tested) == len(runs)
    shown = tested if whole else _known({label: measured(each, "val") for label, each in runs.items()})
    write(out / "table.html", comparison(out.name, table, results, shown, "test" if whole else "val"))
    return table


def only(config: Config, labels: Sequence[str]) -> Config:
    """`config` with these rows of `compare` alone, or with all of them where none is named.

    Raises:
        VptError: a label that `compare` does not have.
    """
    for label in labels:
        if label not in config.compare:
            raise VptError(f"there is no row {label!r} in compare: {did_you_mean(label, config.compare)}")
    rows = {label: config.compare[label] for label in labels or config.compare}
    return config.model_copy(update={"compare": rows})


def make_row(
    config: Config,
    label: str,
    place: str,
    out: Path,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Row:
    """The row of `config.compare` at `label`, each run of which has been checked.

    Args:
        config: the experiments.
        label: the row's; one that is not there changes nothing.
        place: of the row's runs below `out`.
        out: the folder of the table.
        before: changes (key.path: value) that the row's own may undo.
        after: changes that it may not.

    Raises:
        VptError: a mistake in the row.
    """
    check_label(label, "compare")
    values = {key: value for key, value in configs.plain(config).items() if key not in configs.TABLES}
    values |= {key: getattr(config, key) for key in ("select", "select_seeds")}
    for changes in (before or {}, config.compare.get(label, {}), after or {}):
        for key, value in changes.items():
            values = configs.assign(values, key, value)
    checked = configs.parse(values, f"compare.{label}")
    for key, choices in checked.select.items():
        if not choices:
            raise VptError(f"select.{key} names no values: give it some, or leave it out.")
    grid = [dict(zip(checked.select, choice, strict=True)) for choice in product(*checked.select.values())]
    seeds = config.seeds or [config.seed]
    folders = {seed: out / place / (f"seed-{seed}" if config.seeds else "") for seed in seeds}
    values |= {"select": {}, "select_seeds": []}
    row = Row(label, place, values, grid, folders, checked.select_seeds or seeds, out)
    for point in grid:
        row.config(point, seeds[0], out)
    return row


def finish(row: Row, *, test: bool, overwrite: bool, progress: bool) -> list[Run]:
    """The runs of a row, one a seed, at the best point of its grid; read where they are there, made otherwise."""
    point = row.grid[0]
    if len(row.grid) > 1:
        selection = _select(row, row.out / "trials" / row.place, overwrite=overwrite, progress=progress)
        _keep(row.out / "selection.json", row.place, selection)
        point = selection["chosen"]
    runs = [row.config(point, seed, folder) for seed, folder in row.folders.items()]
    how = {"test": test, "overwrite": overwrite, "progress": progress}
    return [Run(run, _finished(run, row.out, **how)) for run in runs]


def measured(runs: Sequence[Run], split: str = "test") -> Measured | None:
    """Top-1 of the runs of a row on one of their own splits; nothing where one has no such figure."""
    if not all("top1" in run.result[split] for run in runs):
        return None
    images = min(run.result["data"]["sizes"].get(split, 0) for run in runs)
    folders = [run.config.out for run in runs if run.config.out is not None]
    top1 = mean(run.result[split]["top1"] for run in runs)
    return Measured(top1, images, read_hits(folders, split)) if images else None


def _known(found: Mapping[str, Measured | None]) -> dict[str, Measured]:
    return {label: one for label, one in found.items() if one}


def write_tables(folder: Path, table: Sequence[dict[str, Any]], name: str = "table") -> None:
    """`table` as table.md, table.csv and table.tex, or by another name."""
    for ending, form in (("md", markdown), ("csv", comma_separated), ("tex", latex)):
        write(folder / f"{name}.{ending}", form(table))


def write(path: Path, text: str) -> None:
    """Write a file so that it is there whole or as it was before, also where others write it at the same time.

    Raises:
        VptError: it cannot be written.
    """

    def action() -> None:
        with Lock(path.parent, patience=MINUTE):
            files.write(path, text)

    on_main(action)


def check_label(label: str, where: str) -> None:
    """Nothing, if `label` can be the name of a folder, or of one in another, below the folder of the table.

    Raises:
        VptError: it leads elsewhere, or is a name of the table's own.
    """
    parts = label.replace("\\", "/").split("/")
    leads_out = any(part.strip() in ("", ".", "..") for part in parts) or parts[0].startswith("~") or ":" in parts[0]
    if leads_out or parts[0] in OWN or parts[0].startswith("."):
        why = "is kept for the table itself" if parts[0] in OWN else "leads out of the folder of the table"
        raise VptError(f"{where} has the label {label!r}, which names a folder and {why}: take another.")


def _select(row: Row, folder: Path, *, overwrite: bool, progress: bool) -> dict[str, Any]:
    """Every point of the grid with its top-1 on validation images (none where a run diverged), and the best."""
    trials: list[dict[str, Any]] = []
    for point in row.grid:
        name = ",".join(f"{key}={value}" for key, value in point.items()).replace("/", "_")
        top1: list[float | None] = []
        for seed in row.select_seeds:
            run = row.config(point, seed, folder / name / f"seed-{seed}")
            try:
                val = _finished(run, row.out, test=False, overwrite=overwrite, progress=progress)["val"]
            except DivergedError:
                val = {"top1": None}
            if not val:
                raise VptError(f"{run.data['name']} has no val split to select on: give it data.val_fraction.")
            top1.append(val["top1"])
        known = [value for value in top1 if value is not None]
        trials.append({"options": point, "val_top1": top1, "mean": mean(known) if len(known) == len(top1) else None})
    finite = [trial for trial in trials if trial["mean"] is not None]
    if not finite:
        raise DivergedError(f"compare.{row.label} diverged at every point of select: give smaller learning rates.")
    best = min(finite, key=lambda trial: (-trial["mean"], order(trial["options"]), row.grid.index(trial["options"])))
    return {"seeds": row.select_seeds, "trials": trials, "chosen": best["options"]}


def order(point: Mapping[str, Any]) -> list[float]:
    """To put points of equal merit in order: by their numbers."""
    numbers = []
    for value in point.values():
        # YAML reads 1e-3 as text.
        with suppress(ValueError):
            numbers.append(float(value))
    return numbers


def _keep(path: Path, place: str, selection: dict[str, Any]) -> None:
    """Add what a row was selected by to what others keep there, perhaps at the same time."""

    def action() -> None:
        with Lock(path.parent, patience=MINUTE):
            kept = read_json(path, Selections, "delete it, and run all rows again") if path.is_file() else {}
            files.write(path, json.dumps({**kept, place: selection}, indent=2) + "\n")

    on_main(action)


def _finished(config: Config, within: Path, *, test: bool, overwrite: bool, progress: bool) -> dict[str, Any]:
    """The result of a run: read where it is there, made or gone on with otherwise, with its place on lines of progress.

    Raises:
        VptError: what is there was run with another config, or with other images, or is damaged.
    """
    assert config.out is not None
    with labelled(str(config.out.relative_to(within))):
        if overwrite or not (config.out / RESULT).is_file():
            return experiment.train(config, resume=not overwrite, overwrite=overwrite, test=test, progress=progress)[1]
        folder = config.out
        if (folder / LOCK).exists():
            # Of a process that died after its last word.
            on_main(lambda: Lock(folder, patience=MINUTE).clear())
        result = read_result(folder / RESULT)
        if test and not result["test"] and "test" in result["data"]["sizes"]:
            return experiment.add_test(config, progress=progress)
    experiment.check_unchanged(config, config.out)
    experiment.data_of(config, config.out, decode=False)
    return result if test else {**result, "test": {}}
