"""How models and runs look in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vpt.report import charts

# A notebook brings its own colours, light or dark: letters take its, and lines are of a middle tone.
STYLE = (
    "--series-1:#4f7fe0;--series-2:#d9622b;--series-3:#1c9a66;--series-4:#a855c7;--series-5:#c9971c;--series-6:#1597ab;"
    "--series-7:#d04a78;--series-8:#868b95;--card:transparent;--faint:rgba(128,128,128,.28);--soft:inherit"
)
RULES = (
    ".vpt-nb svg{width:320px;height:auto;margin-right:12px}.vpt-nb text{fill:currentColor;opacity:.75;font-size:12px}"
    ".vpt-nb .grid{stroke:var(--faint)}.vpt-nb .line{fill:none;stroke-width:2}"
    ".vpt-nb table td,.vpt-nb table th{text-align:left;padding:2px 14px 2px 0}"
    ".vpt-nb ul{list-style:none;margin:0;padding:0;display:flex;gap:14px;font-size:12px}"
    ".vpt-nb pre{font:12px/1.5 monospace;margin:6px 0 0}"
    ".vpt-nb i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}"
)


def boxed(inside: str) -> str:
    """HTML with the style that it needs, of that cell alone."""
    return f'<div class="vpt-nb" style="{STYLE}"><style>{RULES}</style>{inside}</div>'


def facts(rows: Mapping[str, Any], title: str = "") -> str:
    """Names and values as a small table; both are escaped."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    head = f"<p><b>{escape(title)}</b></p>" if title else ""
    return f"{head}<table>{cells}</table>"


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and top-1 (or the sum of recalls) of training and validation by epoch."""
    drawn = []
    for ending, title, percent in (("loss", "loss", False), ("top1", "top-1", True), ("rsum", "sum of recalls", False)):
        series = {
            name: [(row["epoch"], row[f"{part}/{ending}"]) for row in history if f"{part}/{ending}" in row]
            for part, name in (("train", "training"), ("val", "validation"))
        }
        series = {name: points for name, points in series.items() if points}
        if series:
            drawn.append(f"<div>{charts.curves(series, 'epoch', title, percent=percent)}</div>")
    return f'<div style="display:flex;flex-wrap:wrap">{"".join(drawn)}</div>'


def model_html(model: Any) -> str:
    """A summary of a `Prompted`."""
    tuned, every = model.num_tuned(), sum(parameter.numel() for parameter in model.parameters())
    names = ", ".join(model.classes[:6]) + (", …" if len(model.classes) > 6 else "")
    kind = "class names" if model.head is None else "a linear head"
    options = {key: value for key, value in model.recipe["method"].items() if key != "name"}
    size = "×".join(map(str, model.preprocessing.size))
    rows = {
        "backbone": model.recipe["backbone"]["name"] or "a live model",
        "method": model.method.name + "".join(f", {key}={value}" for key, value in options.items()),
        "tuned": f"{tuned:,} of {every:,} numbers ({tuned / every:.2%})",
        "classes": f"{len(model.classes)}: {names}" if model.classes else "none: images are compared with texts",
        **({"classifier": kind} if model.classes else {}),
        "images": f"{size} pixels",
    }
    return boxed(facts(rows, "Prompted model"))


def run_html(run: Any) -> str:
    """A summary of a `FitResult`, with its curves."""
    rows = {
        "epochs": f"{len(run.history)}{', stopped early' if run.stopped_early else ''}; best {run.best_epoch}",
        "time": f"{run.seconds:.1f} s",
    }
    for key, value in run.metrics.items():
        if isinstance(value, int | float):
            share = key.partition("/")[2] in ("top1", "top5", "mean_per_class", "ece")
            rows[key] = f"{value:.2%}" if share else f"{value:.4g}"
    return boxed(facts(rows, "Training") + curves(run.history))


class Figure:
    """A chart of `vpt.report.charts` in a notebook.

    Args:
        markup: of the chart.
    """

    def __init__(self, markup: str) -> None:
        self.markup = markup

    def _repr_html_(self) -> str:
        return boxed(self.markup)


def confusion_figure(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """A confusion matrix with names and counts, for a notebook.

    Args:
        counts: (C, C) with a row for each true class, as `vpt.evaluate` gives them under "confusion".
        names: of the classes.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for true, row in enumerate(counts):
        total = max(sum(row), 1)
        cells = "".join(
            f'<td style="text-align:center;background:rgba({"28,124,84" if true == said else "192,57,43"},'
            f'{0.75 * count / total:.2f})" title="{escape(names[true])} said {escape(names[said])}">{count or ""}</td>'
            for said, count in enumerate(row)
        )
        rows.append(f"<tr><th>{escape(names[true])}</th>{cells}</tr>")
    return Figure(f"<table><tr><th>true / said</th>{head}</tr>{''.join(rows)}</table>")
