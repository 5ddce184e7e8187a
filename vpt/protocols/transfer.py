"""Transfer to other data sets and to other domains of the same classes, Zhou et al., CVPR 2022, sections 4.2, 4.3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from vpt.config import Config
from vpt.protocols.elsewhere import measure_elsewhere, with_data
from vpt.protocols.lines import Lines, line, split_figures, table, with_averages
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
from vpt.sweep import Row, Run, finish, write_tables


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
        source, each target, and the average of the targets; also written as table.md, table.csv and table.tex.

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
        figures = split_figures("source", "test" if test else "val", runs)
        if test:
            figures |= _figures(runs, aims, progress=progress)
        lines[key] = line(figures, runs)
    rows_of_table = table(with_averages(lines))
    write_tables(out, rows_of_table)
    return rows_of_table


def _figures(runs: Sequence[Run], aims: Sequence[Source], *, progress: bool) -> dict[str, list[float]]:
    """Top-1 on each target, and their average, of each run."""
    sections = {f"target-{aim.label}": aim.section for aim in aims}
    found = [measure_elsewhere(run, sections, progress=progress) for run in runs]
    figures = {f"{aim.label} (%)": [top1[f"target-{aim.label}"] for top1 in found] for aim in aims}
    return figures | ({"average (%)": [mean(top1.values()) for top1 in found]} if len(aims) > 1 else {})


def _check(rows: Sequence[Row], aims: Sequence[Source], *, test: bool) -> None:
    """See that the data are there, and that methods which know their own classes alone are not asked for others."""
    known = {look(row.first(), test=test) for row in of_each_source(rows).values()}
    if not test or not rows:
        return
    asked = {look(with_data(rows[0].first(), aim.section), test=True) for aim in aims}
    if len(known | asked) > 1:
        for row in {row.label: row for row in rows}.values():
            check_new_classes(row)
