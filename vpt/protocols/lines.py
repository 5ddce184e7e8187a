"""The lines of a protocol's table: figures over seeds, averages over data sets, and what training took."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

from vpt.report.tables import mean_and_deviation
from vpt.sweep import Run

AVERAGE = "average"


class Line(NamedTuple):
    """Of one method on one data set.

    Attributes:
        figures: column to a share for each seed.
        tuned: parameters that each training tuned, of the same or another number of shots.
        seconds: that each training took, the mean over seeds.
    """

    figures: dict[str, list[float]]
    tuned: list[int]
    seconds: list[float]


# By data set and method.
Lines = dict[tuple[str, str], Line]


def line(figures: dict[str, list[float]], *trainings: Sequence[Run]) -> Line:
    """`figures`, with what each training took: its runs, one a seed."""
    tuned = [runs[0].result["tuned_parameters"] for runs in trainings]
    return Line(figures, tuned, [mean(run.result["seconds"] for run in runs) for runs in trainings])


def split_figures(column: str, split: str, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Top-1 of runs on one of their own splits as a column; nothing where it was not measured."""
    if not all(run.result[split] for run in runs):
        return {}
    return {f"{'' if split == 'test' else f'{split} '}{column} (%)": [run.result[split]["top1"] for run in runs]}


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
        averages[AVERAGE, label] = Line(figures, tuned, seconds)
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


def _once(values: Sequence[float]) -> Any:
    """The one value that all are, or "a / b / c"."""
    return values[0] if len(set(values)) == 1 else " / ".join(f"{value:,}" for value in values)
