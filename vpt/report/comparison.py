"""The page of a table of several methods and seeds: accuracy against tuned numbers, and which rows are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vpt.report import charts
from vpt.report.intervals import Measured, can_be_paired, told_apart, verdict, wilson
from vpt.report.page import Panel, Section, page, table


def comparison(
    title: str,
    rows: Sequence[dict[str, Any]],
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    measured: Mapping[str, Measured],
    split: str,
) -> str:
    """The page.

    Args:
        title: of the table.
        rows: as the table has them, with intervals where test images were measured.
        results: of the runs of each row, by its label.
        measured: top-1 of rows, by label.
        split: what it is of, "test" or "val".
    """
    sections = []
    if measured:
        tuned = {label: results[label][0]["tuned_parameters"] for label in measured}
        sections.append(_picture(measured, tuned, split))
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


def _picture(measured: Mapping[str, Measured], tuned: Mapping[str, int], split: str) -> Section:
    points: list[dict[str, float | str]] = []
    for label, one in measured.items():
        low, high = wilson(one.top1, one.images)
        points.append({"name": label, "x": tuned[label], "y": one.top1, "low": low, "high": high})
    images = "test" if split == "test" else "validation"
    caption = f"Each row's mean {images} top-1 with its 95 % interval (Wilson), by how many numbers it tunes."
    drawn = charts.intervals(points, "tuned numbers", f"{images} top-1")
    return Section("picture", "Accuracy against tuned numbers", [Panel(charts=[{"svg": drawn, "caption": caption}])])


def _pairs(measured: Mapping[str, Measured], split: str) -> Section:
    ordered = sorted(measured, key=lambda label: -measured[label].top1)
    rows = []
    for label in ordered:
        one = measured[label]
        row: dict[str, Any] = {"run": label}
        for other in ordered:
            theirs = measured[other]
            said = f"{(one.top1 - theirs.top1) * 100:+.1f}" if told_apart(one, theirs) else "="
            row[other] = "" if other == label else said if can_be_paired(one, theirs) else f"{said}*"
        rows.append(row)
    lead = (
        "Percentage points between two rows where their images tell them apart at 95 % (paired image by image "
        "and seed by seed); “=” where they do not. *: not known image by image, or not of the same images or seeds; "
        "taken for independent samples by Newcombe's interval."
    )
    caption = f"Row minus column, {split} top-1"
    return Section("pairs", "Which rows can be told apart", [Panel(tables=[table(rows, caption)])], lead, wide=True)
