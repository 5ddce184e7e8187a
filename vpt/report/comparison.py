"""The page of a table of several methods and seeds: accuracy against tuned numbers, and which rows are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from vpt.report import charts
from vpt.report.intervals import told_apart, verdict, wilson
from vpt.report.page import Panel, Section, page, table


def comparison(title: str, rows: Sequence[dict[str, Any]], results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page.

    Args:
        title: of the table.
        rows: as the table has them, with intervals where test images were measured.
        results: of the runs of each row, by its label.
    """
    split = "test" if all(run["test"].get("top1") is not None for runs in results.values() for run in runs) else "val"
    measured = {
        label: (mean(run[split]["top1"] for run in runs), min(run["data"]["sizes"].get(split, 0) for run in runs), runs)
        for label, runs in results.items()
        if all("top1" in run[split] for run in runs)
    }
    sections = []
    if measured and all(count for _, count, _ in measured.values()):
        sections.append(_picture(measured, split))
        if len(measured) > 1:
            sections.append(_pairs(measured, split))
    said = verdict(rows)
    lead = f"{said[0].upper()}{said[1:]}." if said else ""
    sections.insert(
        min(1, len(sections)), Section("table", "The table", [Panel(tables=[_whole(rows)])], lead, wide=True)
    )
    first = next(iter(results.values()))[0]
    subtitle = f"{first['data']['name']}, {first['backbone']}"
    return page(title, sections, kind="Comparison", subtitle=subtitle)


def _whole(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return table(rows, "A click on a name sorts; ± is the deviation over seeds", sortable=True)


def _picture(measured: Mapping[str, tuple[float, int, Any]], split: str) -> Section:
    points = []
    for label, (top1, count, runs) in measured.items():
        low, high = wilson(top1, count)
        points.append({"name": label, "x": runs[0]["tuned_parameters"], "y": top1, "low": low, "high": high})
    images = "test" if split == "test" else "validation"
    caption = f"Each row's mean {images} top-1 with its 95 % interval (Wilson), by how many numbers it tunes."
    drawn = charts.intervals(points, "tuned numbers", f"{images} top-1")
    return Section("picture", "Accuracy against tuned numbers", [Panel(charts=[{"svg": drawn, "caption": caption}])])


def _pairs(measured: Mapping[str, tuple[float, int, Any]], split: str) -> Section:
    ordered = sorted(measured, key=lambda label: -measured[label][0])
    rows = []
    for label in ordered:
        top1, count, _ = measured[label]
        row: dict[str, Any] = {"run": label}
        for other in ordered:
            theirs, others, _ = measured[other]
            apart = told_apart(max(top1, theirs), min(top1, theirs), min(count, others))
            row[other] = "" if other == label else f"{(top1 - theirs) * 100:+.1f}" if apart else "="
        rows.append(row)
    lead = (
        "Percentage points between two rows where their images tell them apart at 95 % (Newcombe's interval for "
        "independent samples, which is too wide rather than too narrow on the same images); “=” where they do not. "
        "vpt report RUN RUN pairs two runs image by image."
    )
    caption = f"Row minus column, {split} top-1"
    return Section("pairs", "Which rows can be told apart", [Panel(tables=[table(rows, caption)])], lead, wide=True)
