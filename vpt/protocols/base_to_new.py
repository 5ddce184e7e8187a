"""Generalisation from base to new classes, Zhou et al., CVPR 2022 (CoCoOp), section 4.1."""

from __future__ import annotations

from pathlib import Path
from statistics import harmonic_mean, mean
from typing import Any

from vpt.config import Config
from vpt.errors import VptError
from vpt.methods import find
from vpt.protocols.elsewhere import known_elsewhere, measure_elsewhere, with_data
from vpt.protocols.lines import Line, Lines, line, split_figures, tested, with_averages, write
from vpt.protocols.sources import (
    Source,
    check_new_classes,
    labels,
    look,
    of_each_source,
    source_row,
    sources,
    unfinished,
)
from vpt.sweep import Row, Run, finish

BASE, NEW, HARMONIC = "base (%)", "new (%)", "H (%)"
# Two for each half: of one class there is nothing to tell apart.
FEWEST = 4


def base_to_new(
    config: Config, *, test: bool = True, overwrite: bool = False, progress: bool = True
) -> list[dict[str, Any]]:
    """Train on the first half of each data set's classes; test on them, and on the other half by its names alone.

    A method that looks at no label is trained on the images of both halves and the names of all classes
    (transductively, as PromptKD's paper has it), and its base classes are measured as the new ones are.

    Each half is a label space of its own. Runs lie below out/DATA/LABEL; what a run makes of the new classes is kept
    there as new.json. H is the harmonic mean of the averages of both: of a data set those over seeds, of all data sets
    those over seeds and data sets, as published; it is not an average of harmonic means.

    Args:
        config: the experiments.
        test: measure the test splits; without it there are validation images of base classes alone.
        overwrite: delete finished runs.
        progress: show it.

    Returns:
        A table with a row for each data set and method, and, of several data sets, the averages over them; also
        written as table.md, table.csv and table.tex, and the intervals of its figures as intervals.md and so on.

    Raises:
        VptError: a mistake in the config, too few classes for two halves, or a method that knows its own classes alone
            (a linear head, a context or a cache of each class), told before any run; or a run that was made with
            another config.
    """
    out = config.out or Path("runs/base_to_new")
    rows = {
        (source.label, label): _row(config, source, label, out)
        for source in sources(config)
        for label in labels(config)
    }
    todo = unfinished(list(rows.values()), overwrite=overwrite)
    for row in {row.label: row for row in todo}.values():
        check_new_classes(row)
    for row in of_each_source(todo).values():
        _check_halves(row.first(), test=test)
    lines: Lines = {}
    for key, row in rows.items():
        runs = finish(row, test=test, overwrite=overwrite, progress=progress)
        both = _transductive(row)
        figures = split_figures("all" if both else "base", "test" if test and not both else "val", runs)
        known = {} if both else tested("base", runs)
        if test:
            for half, column in (("base", BASE), ("new", NEW)) if both else (("new", NEW),):
                figures[column] = [_half(run, half, progress=progress) for run in runs]
                known[column] = known_elsewhere(runs, half, figures[column])
        lines[key] = line(figures, known, runs)
    return write(out, {key: with_harmonic_mean(part) for key, part in with_averages(lines).items()})


def with_harmonic_mean(part: Line) -> Line:
    """`part` with the harmonic mean of the averages over seeds of base and new, where there are both."""
    if BASE not in part.figures or NEW not in part.figures:
        return part
    both = [mean(part.figures[BASE]), mean(part.figures[NEW])]
    return part._replace(figures={**part.figures, HARMONIC: [harmonic_mean(both)]})


def _row(config: Config, source: Source, label: str, out: Path) -> Row:
    row = source_row(config, source, label, out, after={"data.classes_subset": "base"})
    if not _transductive(row):
        return row
    return source_row(config, source, label, out, after={"data.classes_subset": "all"})


def _check_halves(config: Config, *, test: bool) -> None:
    """Nothing, if the data of a checked config are there, and each half of the classes leaves something to choose.

    Raises:
        VptError: they are not, or there are too few classes.
    """
    whole = with_data(config, {**config.data, "classes_subset": "all"})
    data = look(whole, test=test)
    if len(data.classes) < FEWEST:
        count = f"{data.name} has {len(data.classes)} classes"
        raise VptError(f"{count}: base-to-new needs {FEWEST} or more, two for each half.")


def _transductive(row: Row) -> bool:
    return find(row.first().method["name"]).transductive


def _half(run: Run, half: str, *, progress: bool) -> float:
    section = {**run.config.data, "classes_subset": half}
    return measure_elsewhere(run, {half: section}, progress=progress)[half]
