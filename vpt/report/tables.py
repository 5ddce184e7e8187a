"""Tables of results: for the terminal, as Markdown, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from vpt.report.notes import printable

# Of classification, and of retrieval from images to texts and the other way round.
FIGURES = {
    "top1": "top-1 (%)",
    "i2t_r1": "i2t R@1 (%)",
    "i2t_r10": "i2t R@10 (%)",
    "t2i_r1": "t2i R@1 (%)",
    "t2i_r10": "t2i R@10 (%)",
}

LATEX = {character: f"\\{character}" for character in "%&#$_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "→": r"$\to$",
}

# Numbers as tables show them: 1,234, -0.5, 1e-05, 12.3%, 92.00 ± 2.00, 80.1 – 90.2, 5 / 6; and what is no number.
NUMBER = r"[-+−]?(\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?|nan|inf)"
NUMBERS = re.compile(rf"{NUMBER}( (±|–|/) {NUMBER})*")
WIDEST = 10_000

Rows = Sequence[dict[str, Any]]


def print_table(rows: Rows) -> None:
    """Print `rows`; numbers stand to the right, names as they are."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    columns = {column: [cell(row.get(column, "")) for row in rows] for column in columns_of(rows)}
    for column, cells in columns.items():
        table.add_column(Text(printable(column)), justify="right" if numeric(cells) else "left", overflow="fold")
    for line in zip(*columns.values(), strict=True):
        table.add_row(*(Text(printable(text)) for text in line))
    # Without a terminal to fit into rich would fold columns at 80 characters.
    Console(width=None if sys.stdout.isatty() else WIDEST).print(table)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, each where it comes first: a row need not have what another has."""
    return list(dict.fromkeys(column for row in rows for column in row))


def numeric(cells: Sequence[str]) -> bool:
    """Whether all cells of a column are numbers, shares, or numbers with a deviation, or are empty."""
    return any(cells) and all(not text or NUMBERS.fullmatch(text) for text in cells)


def markdown(rows: Rows) -> str:
    """`rows` as a Markdown table; numbers stand to the right."""
    columns = columns_of(rows)
    lines = [columns, *([cell(row.get(c, "")) for c in columns] for row in rows)]
    plain = [[printable(text).replace("|", "\\|") for text in line] for line in lines]
    plain.insert(1, ["---:" if numeric(cells) else "---" for cells in zip(*lines[1:], strict=True)])
    return "".join(f"| {' | '.join(line)} |\n" for line in plain)


def comma_separated(rows: Rows) -> str:
    """`rows` as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def latex(rows: Rows) -> str:
    r"""`rows` as a LaTeX tabular, for which the document needs booktabs; numbers stand to the right."""
    columns = columns_of(rows)
    cells = [[cell(row.get(column, "")) for column in columns] for row in rows]
    sides = "".join("r" if numeric(column) else "l" for column in zip(*cells, strict=True))
    head, *lines = (" & ".join(_escaped(text) for text in line) + r" \\" for line in (columns, *cells))
    parts = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(parts) + "\n"


def result_rows(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each label, from the results of its runs: mean and deviation over seeds of what differs.

    A figure that any row has is a column of all, and empty where a row has not been measured so.
    """
    figures = {label: _figures(runs) for label, runs in results.items()}
    nothing = dict.fromkeys(columns_of(list(figures.values())), "")
    return [
        {
            "run": label,
            **nothing,
            **figures[label],
            "tuned": runs[0]["tuned_parameters"],
            "share": f"{runs[0]['share']:.2%}",
            "seconds": round(mean(run["seconds"] for run in runs), 1),
            "file size (KB)": round(runs[0]["bytes"] / 1000),
        }
        for label, runs in results.items()
    ]


def _figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the runs of a row were measured by, on validation and test images."""
    figures = {}
    for split in ("val", "test"):
        if not all(run[split] for run in runs):
            continue
        for key, title in FIGURES.items():
            if key in runs[0][split]:
                figures[f"{split} {title}"] = mean_and_deviation([run[split][key] for run in runs])
    for key in runs[0]["test"]:
        if key.startswith("top1/"):
            figures[f"{key.removeprefix('top1/')} (%)"] = mean_and_deviation([run["test"][key] for run in runs])
    return figures


def _escaped(text: str) -> str:
    """`text` with what LaTeX gives a meaning to made plain."""
    return "".join(LATEX.get(character, character) for character in text)


def mean_and_deviation(values: Sequence[float]) -> str:
    """Shares as percent, "91.25 ± 0.31": mean and sample standard deviation; of one value just itself."""
    shown = f"{mean(values) * 100:.2f}"
    return f"{shown} ± {stdev(values) * 100:.2f}" if len(values) > 1 else shown


def cell(value: Any) -> str:
    """A value as a table shows it: whole numbers with separators, others with 4 digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
