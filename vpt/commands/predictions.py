"""Predictions as a table, as JSON lines, and as a CSV file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpt.errors import VptError
from vpt.files import replacing
from vpt.report.notes import tell
from vpt.report.tables import print_table

if TYPE_CHECKING:
    from vpt.predict import Prediction

    # Files with their predictions, or with what was wrong with them.
    Found = Iterable[tuple[Path, Prediction | VptError]]


def show_predictions(found: Found, *, top: int | None, as_json: bool) -> int:
    """Print the `top` classes of each image, or all where it is None; returns how many were broken."""
    rows: list[dict[str, Any]] = []
    broken = 0
    for path, prediction in found:
        if isinstance(prediction, VptError):
            tell(str(prediction))
            broken += 1
            continue
        best = dict(list(prediction.scores.items())[:top])
        if as_json:
            print(json.dumps({"image": str(path), "label": prediction.label, "scores": best}, ensure_ascii=False))
        else:
            rows.append({"image": str(path), "label": prediction.label} | _ranked(best))
    if rows:
        print_table(rows)
    return broken


def write_predictions(file: Path, found: Found, *, top: int | None) -> int:
    """Write a CSV file with a row for each image: its path, label and score, and further classes with theirs.

    Args:
        file: there whole at the end, or not at all.
        found: predictions.
        top: classes of each image, the best first; None for a column of every class, in one order for all rows.

    Returns:
        How many images were broken, and therefore have no row.
    """
    broken = 0
    columns: list[str] | None = None
    # A path in no UTF-8 is written as the bytes that it is.
    with replacing(file) as new, new.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        for path, prediction in found:
            if isinstance(prediction, VptError):
                tell(str(prediction))
                broken += 1
                continue
            ranked = list(prediction.scores.items())[:top]
            if columns is None:
                further = [f"{kind} {rank}" for rank in range(2, len(ranked) + 1) for kind in ("label", "score")]
                columns = sorted(prediction.scores) if top is None else further
                writer.writerow(["image", "label", "score", *columns])
            every = [prediction.scores[name] for name in columns] if top is None else []
            more: list[Any] = every or [cell for pair in ranked[1:] for cell in pair]
            writer.writerow([path, prediction.label, prediction.score, *more])
    return broken


def _ranked(scores: dict[str, float]) -> dict[str, str]:
    return {f"{rank}.": f"{name} {score:.1%}" for rank, (name, score) in enumerate(scores.items(), 1)}
