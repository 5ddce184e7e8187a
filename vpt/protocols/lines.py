"""The lines of a protocol's table: figures over seeds, averages over data sets, and what training took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from vpt.report.intervals import AGAINST, INTERVAL, Measured, against_best
from vpt.report.tables import mean_and_deviation
from vpt.sweep import Run, measured, write_tables

AVERAGE = "average"


class Line(NamedTuple):
    """Of one method on one data set.

    Attributes:
        figures: column to a share for each seed.
        tested: column to what is known of these test images, where they are of one data set.
        tuned: parameters that each training tuned, of the same or another number of shots.
        seconds: that each training took, the mean over seeds.
    """

    figures: dict[str, list[float]]
    tested: dict[str, Measured]
    tuned: list[int]
    seconds: list[float]


# By data set and method.
Lines = dict[tuple[str, str], Line]


def line(figures: dict[str, list[float]], tested: dict[str, Measured], *trainings: Sequence[Run]) -> Line:
    """`figures`, and what is known of test images, with what each training took: its runs, one a seed."""
    tuned = [runs[0].result["tuned_parameters"] for runs in trainings]
    return Line(figures, tested, tuned, [mean(run.result["seconds"] for run in runs) for runs in trainings])


def split_figures(column: str, split: str, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Top-1 of runs on one of their own splits as a column; nothing where it was not measured."""
    if not all(run.result[split] for run in runs):
        return {}
    return {f"{'' if split == 'test' else f'{split} '}{column} (%)": [run.result[split]["top1"] for run in runs]}


def tested(column: str, runs: Sequence[Run]) -> dict[str, Measured]:
    """What is known of the test images of runs as a column; nothing where they were not measured."""
    found = measured(runs)
    return {f"{column} (%)": found} if found else {}


def with_averages(lines: Lines) -> Lines:
    """`lines`, and where there are several data sets the average over them of each method, seed by seed."""
    if len({data for data, _ in lines}) < 2:
        return lines
    averages = {}
    for label in dict.fromkeys(label for _, label in lines):
        parts = [part for (_, other), part in lines.items() if other == label]
        columns = [column for column in parts[0].figures if all(column in part.figures for part in parts)]
        figures = {c: [mean(seed) for seed in zip(*(part.figures[c] for part in parts), strict=True)] for c in columns}
        tuned = [round(mean(counts)) for counts in zip(*(part.tuned for part in parts), strict=True)]
        seconds = [mean(times) for times in zip(*(part.seconds for part in parts), strict=True)]
        averages[AVERAGE, label] = Line(figures, {}, tuned, seconds)
    return lines | averages


def table(lines: Lines) -> list[dict[str, Any]]:
    """Rows with the data set (where there are several), the method, mean and deviation over seeds, and what it took."""
    several = len({data for data, _ in lines}) > 1
    columns = list(dict.fromkeys(column for part in lines.values() for column in part.figures))
    rows = []
    for (data, label), part in lines.items():
        figures = {c: mean_and_deviation(part.figures[c]) if c in part.figures else "" for c in columns}
        took = {"tuned": _once(part.tuned), "seconds": _once([round(value, 1) for value in part.seconds])}
        rows.append(({"data": data} if several else {}) | {"run": label} | figures | took)
    return rows


def intervals(lines: Lines) -> list[dict[str, Any]]:
    """Rows as those of `table`, with the 95 % interval of each figure and how it is against the best of its column.

    They are of the test images of one data set: averages over several have none.
    """
    of_data: dict[str, dict[str, Line]] = {}
    for (data, label), part in lines.items():
        if part.tested:
            of_data.setdefault(data, {})[label] = part
    rows = []
    for data, parts in of_data.items():
        columns = list(dict.fromkeys(column for part in parts.values() for column in part.tested))
        told = {c: against_best({label: p.tested[c] for label, p in parts.items() if c in p.tested}) for c in columns}
        for label in parts:
            row = ({"data": data} if len(of_data) > 1 else {}) | {"run": label}
            for column in columns:
                found = told[column].get(label, {})
                row[column] = found.get(INTERVAL, "")
                row[f"{column.removesuffix(' (%)')}, {AGAINST}"] = found.get(AGAINST, "")
            rows.append(row)
    return rows


def write(out: Path, lines: Lines) -> list[dict[str, Any]]:
    """The table of `lines`, also written as table.md, table.csv and table.tex, and intervals likewise."""
    rows = table(lines)
    write_tables(out, rows)
    found = intervals(lines)
    if found:
        write_tables(out, found, "intervals")
    return rows


def _once(values: Sequence[float]) -> Any:
    """The one value that all are, or "a / b / c"."""
    return values[0] if len(set(values)) == 1 else " / ".join(f"{value:,}" for value in values)
