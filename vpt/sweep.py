"""Many runs of one config: rows and seeds in a table, and options selected on validation images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from vpt import build
from vpt import config as configs
from vpt.config import Config
from vpt.errors import DivergedError, VptError
from vpt.report.tables import comma_separated, markdown, result_rows

Point = dict[str, Any]


class Row(NamedTuple):
    """A row of the table: plain values of its config, what to select among, and seeds for either."""

    label: str
    values: dict[str, Any]
    grid: list[Point]
    seeds: list[int]
    select_seeds: list[int]


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
        A table with a row a label, also written as table.md and table.csv.

    Raises:
        VptError: a mistake in a row, told before any is run, or a run that was made with another config.
    """
    if not config.compare:
        raise VptError("the config has no rows to compare: give it compare: {label: {method: …}, …}.")
    out = config.out or Path("runs/compare")
    rows = [_row(config, label) for label in config.compare]
    for row in rows:
        for point in row.grid:
            _run(row, point, row.seeds[0], out)
    results: dict[str, list[dict[str, Any]]] = {}
    selection: dict[str, dict[str, Any]] = {}
    for row in rows:
        if len(row.grid) > 1:
            selection[row.label] = _select(row, out / "trials" / row.label, overwrite=overwrite, progress=progress)
            _write(out / "selection.json", json.dumps(selection, indent=2) + "\n")
        point = selection[row.label]["chosen"] if row.label in selection else row.grid[0]
        folders = {seed: out / row.label / (f"seed-{seed}" if config.seeds else "") for seed in row.seeds}
        runs = [_run(row, point, seed, folder) for seed, folder in folders.items()]
        results[row.label] = [_finished(run, test=test, overwrite=overwrite, progress=progress) for run in runs]
    table = result_rows(results)
    _write(out / "table.md", markdown(table))
    _write(out / "table.csv", comma_separated(table))
    return table


def _row(config: Config, label: str) -> Row:
    values: dict[str, Any] = {**build.plain(config), "compare": {}, "seeds": []}
    for key, value in config.compare[label].items():
        values = configs.assign(values, key, value)
    checked = configs.parse(values, f"compare.{label}")
    for key, choices in checked.select.items():
        if not choices:
            raise VptError(f"select.{key} names no values: give it some, or leave it out.")
    grid = [dict(zip(checked.select, choice, strict=True)) for choice in product(*checked.select.values())]
    seeds = config.seeds or [config.seed]
    return Row(label, {**values, "select": {}, "select_seeds": []}, grid, seeds, checked.select_seeds or seeds)


def _run(row: Row, point: Point, seed: int, folder: Path) -> Config:
    values = row.values
    for key, value in point.items():
        values = configs.assign(values, key, value)
    return build.check(configs.parse({**values, "seed": seed, "out": str(folder)}, f"compare.{row.label}"))


def _select(row: Row, folder: Path, *, overwrite: bool, progress: bool) -> dict[str, Any]:
    """Every point of the grid with its top-1 on validation images (none where a run diverged), and the best."""
    trials: list[dict[str, Any]] = []
    for point in row.grid:
        name = ",".join(f"{key}={value}" for key, value in point.items()).replace("/", "_")
        top1: list[float | None] = []
        for seed in row.select_seeds:
            run = _run(row, point, seed, folder / name / f"seed-{seed}")
            try:
                val = _finished(run, test=False, overwrite=overwrite, progress=progress)["val"]
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
    best = min(finite, key=lambda trial: (-trial["mean"], _order(trial["options"], row.grid)))
    return {"seeds": row.select_seeds, "trials": trials, "chosen": best["options"]}


def _order(point: Mapping[str, Any], grid: Sequence[Point]) -> tuple[Any, ...]:
    """To put points of equal merit in order: by their numbers, then as they were named."""
    numbers = []
    for value in point.values():
        # YAML reads 1e-3 as text.
        with suppress(ValueError):
            numbers.append(float(value))
    return *numbers, grid.index(dict(point))


def _finished(config: Config, *, test: bool, overwrite: bool, progress: bool) -> dict[str, Any]:
    """The result of a run: read where it is there, made or gone on with otherwise.

    Raises:
        VptError: what is there was run with another config.
    """
    assert config.out is not None
    result_file = config.out / "result.json"
    if overwrite or not result_file.is_file():
        return build.train(config, resume=not overwrite, overwrite=overwrite, test=test, progress=progress)[1]
    build.check_unchanged(config, config.out)
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    if not test:
        return {**result, "test": {}}
    withheld = not result["test"] and "test" in result["data"]["sizes"]
    return build.add_test(config, result, progress=progress) if withheld else result


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
