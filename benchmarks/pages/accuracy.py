"""Accuracy against tuned numbers, of a table in docs/results.md, as a picture."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from benchmarks.pages.drawing import lines, picture, words
from benchmarks.pages.facts import ROOT

TABLE = "## Caltech-101, 16 shots, DeiT-Tiny"
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 596, 44, 240


class Row(NamedTuple):
    """Of the table: a method, its test top-1 with the deviation over seeds, in %, and how many numbers are trained."""

    name: str
    top1: float
    deviation: float
    tuned: int


def rows() -> list[Row]:
    """The table as it stands in the page."""
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = page[page.index(TABLE) :].partition("\n## ")[0]
    found = re.findall(r"^\| ([\w-]+) \| [^|]+ \| ([\d.]+) ± ([\d.]+) \| ([\d,]+) \|", section, re.M)
    return [Row(name, float(mean), float(spread), int(tuned.replace(",", ""))) for name, mean, spread, tuned in found]


def chart() -> str:
    """The picture."""
    given = rows()
    low, high = 60.0, 90.0
    first, last = 4.0, 7.0  # powers of ten

    def x(tuned: int) -> float:
        return LEFT + (math.log10(tuned) - first) / (last - first) * (RIGHT - LEFT)

    def y(top1: float) -> float:
        return BOTTOM - (top1 - low) / (high - low) * (BOTTOM - TOP)

    ticks = [60, 70, 80, 90]
    shapes = [
        words(LEFT - 44, 24, "test top-1 (%), Caltech-101, 16 pictures a class", "ink", "start", 14),
        lines([(LEFT, y(each), RIGHT, y(each)) for each in ticks], "frozen", 1),
        *(words(LEFT - 10, y(each) + 4, str(each), "quiet", "end") for each in ticks),
        *(
            words(LEFT + (power - first) / (last - first) * (RIGHT - LEFT), BOTTOM + 20, label, "quiet")
            for power, label in ((4, "10 thousand"), (5, "100 thousand"), (6, "1 million"), (7, "10 million"))
        ),
        words((LEFT + RIGHT) / 2, HEIGHT - 14, "trained numbers, head included (5.5 million in all)", "quiet"),
    ]
    for each in given:
        kind = "quiet" if each.name in ("linear", "full") else "learned"
        at, height = x(each.tuned), y(each.top1)
        reach = (y(each.top1 - each.deviation), y(each.top1 + each.deviation))
        shapes += [
            lines([(at, reach[0], at, reach[1])], kind, 2),
            f'<circle class="{kind}" cx="{at:.4g}" cy="{height:.4g}" r="5"/>',
        ]
        side = -1 if each.name in ("vpt-deep", "full") else 1
        anchor = "end" if side < 0 else "start"
        label = {"linear": "linear probe", "full": "everything", "bias": "every bias"}.get(each.name, each.name)
        shapes.append(words(at + 11 * side, height + 4, f"{label} {each.top1:.1f}", "ink", anchor))
    title = "; ".join(f"{each.name} {each.top1} ± {each.deviation} % with {each.tuned:,}" for each in given)
    return picture(WIDTH, HEIGHT, f"Test top-1 on Caltech-101 against trained numbers: {title}", shapes)
