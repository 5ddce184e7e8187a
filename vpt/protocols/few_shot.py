"""Few-shot classification: training on a few images of each class, Zhou et al., IJCV 2022 (CoOp), section 4.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vpt.config import Config
from vpt.errors import VptError
from vpt.protocols.lines import Lines, line, split_figures, tested, with_averages, write
from vpt.protocols.sources import Source, labels, look, of_each_source, source_row, sources, unfinished
from vpt.report.intervals import Measured
from vpt.sweep import Row, Run, finish


def few_shot(
    config: Config, *, test: bool = True, overwrite: bool = False, progress: bool = True
) -> list[dict[str, Any]]:
    """Train every method of `config.compare` on every data set with each of `config.shots` and every seed.

    Runs lie below out/DATA/LABEL/N-shot; those that are finished are read. Zero-shot classification sees no training
    image, and is run once for all numbers of shots.

    Args:
        config: the experiments.
        test: measure the test split; without it figures are of validation images.
        overwrite: delete finished runs.
        progress: show it.

    Returns:
        A table with a row for each data set and method, a column for each number of shots, and, of several data sets,
        the averages over them; also written as table.md, table.csv and table.tex, and the intervals of its figures
        as intervals.md and so on. Of tuned parameters and seconds there is one for each number of shots, where they are
        not the same.

    Raises:
        VptError: a mistake in the config, told before any run, or a run that was made with another config.
    """
    if not config.shots:
        raise VptError("few-shot has no shots: give it shots: [1, 2, 4, 8, 16].")
    out = config.out or Path("runs/few_shot")
    rows = {(s.label, label): _rows(config, s, label, out) for s in sources(config) for label in labels(config)}
    todo = unfinished([row for each in rows.values() for row in each.values()], overwrite=overwrite)
    for row in of_each_source(todo).values():
        look(row.first(), test=test)
    lines: Lines = {}
    for key, of_shots in rows.items():
        done: dict[str, list[Run]] = {}
        for row in of_shots.values():
            if row.place not in done:
                done[row.place] = finish(row, test=test, overwrite=overwrite, progress=progress)
        figures: dict[str, list[float]] = {}
        known: dict[str, Measured] = {}
        for shots, row in of_shots.items():
            figures |= split_figures(f"{shots}-shot", "test" if test else "val", done[row.place])
            known |= tested(f"{shots}-shot", done[row.place])
        lines[key] = line(figures, known, *(done[row.place] for row in of_shots.values()))
    return write(out, with_averages(lines))


def _rows(config: Config, source: Source, label: str, out: Path) -> dict[int, Row]:
    """A method's row for each number of shots, which is one and the same for zero-shot."""

    def row(shots: int, within: str, changes: dict[str, Any]) -> Row:
        after = {"data.shots": shots}
        return source_row(config, source, label, out, within=within, before=changes, after=after)

    rows = {shots: row(shots, f"{shots}-shot", changes) for shots, changes in config.shots.items()}
    first = next(iter(rows.values()))
    if first.first().method["name"] == "zero-shot" and len(first.grid) == 1:
        return dict.fromkeys(rows, row(1, "", {}))
    return rows
