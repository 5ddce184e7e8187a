"""Transfer to other data sets and to other domains of the same classes, Zhou et al., CVPR 2022, sections 4.2, 4.3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from vpt.config import Config
from vpt.protocols.elsewhere import known_elsewhere, measure_elsewhere, with_data
from vpt.protocols.lines import Lines, line, split_figures, tested, with_averages, write
from vpt.protocols.sources import (
    Source,
    check_new_classes,
    labels,
    look,
    of_each_source,
    source_row,
    sources,
    targets,
    unfinished,
)
from vpt.report.intervals import Measured
from vpt.sweep import Row, Run, finish


def transfer(
    config: Config, *, test: bool = True, overwrite: bool = False, progress: bool = True
) -> list[dict[str, Any]]:
    """Train on the classes of `config.data`, and test the same models on each of `config.targets`.

    Targets with other classes are told apart by their names (cross-data-set transfer); targets with the same classes
    and other images, such as ImageNetV2 of ImageNet, show how a method bears a change of domain (domain
    generalisation). Runs lie below out/DATA/LABEL; what a run makes of a target is kept there as target-NAME.json.

    Args:
        config: the experiments.
        test: measure the test splits; without it there are validation images of the source alone.
        overwrite: delete finished runs.
        progress: show it.

    Returns:
        A table with a row for each method (and each source, where `datasets` names several), and columns for the
        source, each target, and the average of the targets; also written as table.md, table.csv and table.tex,
        and the intervals of its figures as intervals.md and so on.

    Raises:
        VptError: a mistake in the config, or a method that knows its own classes alone and a target with others, told
            before any run; or a run that was made with another config.
    """
    out, aims = config.out or Path("runs/transfer"), targets(config)
    rows = {
        (source.label, label): source_row(config, source, label, out, after={})
        for source in sources(config)
        for label in labels(config)
    }
    for row in rows.values():
        for aim in aims:
            with_data(row.first(), aim.section)
    _check(unfinished(list(rows.values()), overwrite=overwrite), aims, test=test)
    lines: Lines = {}
    for key, row in rows.items():
        runs = finish(row, test=test, overwrite=overwrite, progress=progress)
        figures, known = split_figures("source", "test" if test else "val", runs), tested("source", runs)
        if test:
            on_targets, known_of_targets = _figures(runs, aims, progress=progress)
            figures, known = figures | on_targets, known | known_of_targets
        lines[key] = line(figures, known, runs)
    return write(out, with_averages(lines))


def _figures(
    runs: Sequence[Run], aims: Sequence[Source], *, progress: bool
) -> tuple[dict[str, list[float]], dict[str, Measured]]:
    """Top-1 on each target, and their average, of each run; and what is known of the images of each target."""
    sections = {f"target-{aim.label}": aim.section for aim in aims}
    found = [measure_elsewhere(run, sections, progress=progress) for run in runs]
    figures: dict[str, list[float]] = {}
    known: dict[str, Measured] = {}
    for aim in aims:
        name, column = f"target-{aim.label}", f"{aim.label} (%)"
        figures[column] = [top1[name] for top1 in found]
        known[column] = known_elsewhere(runs, name, figures[column])
    return figures | ({"average (%)": [mean(top1.values()) for top1 in found]} if len(aims) > 1 else {}), known


def _check(rows: Sequence[Row], aims: Sequence[Source], *, test: bool) -> None:
    """See that the data are there, and that methods which know their own classes alone are not asked for others."""
    known = {look(row.first(), test=test).classes for row in of_each_source(rows).values()}
    if not test or not rows:
        return
    asked = {look(with_data(rows[0].first(), aim.section), test=True).classes for aim in aims}
    if len(known | asked) > 1:
        for row in {row.label: row for row in rows}.values():
            check_new_classes(row)
