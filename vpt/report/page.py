"""A page that stands alone: one HTML file with its style, charts and pictures in it, which loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vpt import __version__
from vpt.report.tables import cell as shown
from vpt.report.tables import columns_of, numeric

HERE = Path(__file__).parent
THUMBNAIL = 224


@dataclass
class Panel:
    """A part of a section; what it does not hold is left out.

    Attributes:
        title: above it.
        colour: of a run, beside the title.
        cards: large figures: "name", "value", "beside".
        charts: "svg", markup of `vpt.report.charts`, and "caption".
        matrix: of `confusion`.
        heat: the address of a picture of one that is too large.
        tables: of `table`.
        galleries: "title", "images" and what stands where there are "none".
        looks: rows of pictures of one image: "views" and "caption".
        texts: "title" and "text" that folds.
        notes: sentences.
    """

    title: str = ""
    colour: str = ""
    cards: list[dict[str, Any]] = field(default_factory=list)
    charts: list[dict[str, Any]] = field(default_factory=list)
    matrix: dict[str, Any] | None = None
    heat: str = ""
    tables: list[dict[str, Any]] = field(default_factory=list)
    galleries: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Section:
    """A headline with panels beside each other, or, where they are `wide`, below each other."""

    id: str
    title: str
    panels: list[Panel]
    lead: str = ""
    wide: bool = False


def page(title: str, sections: Sequence[Section], *, kind: str, subtitle: str = "") -> str:
    """The whole page; all names are escaped, and charts alone are taken as markup."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    for section in sections:
        for panel in section.panels:
            panel.charts = [chart | {"svg": Markup(chart["svg"])} for chart in panel.charts if chart["svg"]]
    # Text of the package's own, which holds no tag.
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return template.render(
        title=title,
        subtitle=subtitle,
        kind=kind,
        sections=sections,
        style=style,
        script=script,
        # Without the time: the same runs have the same page, to the byte.
        footer=f"Made by vpt {__version__}. This file stands alone and loads nothing.",
    )


def table(
    rows: Sequence[Mapping[str, Any]], caption: str, *, sortable: bool = False, bars: Sequence[str] = ()
) -> dict[str, Any]:
    """Rows with their keys as columns.

    Args:
        rows: values, as `vpt.report.tables.cell` shows them.
        caption: what they are.
        sortable: by any column.
        bars: columns of shares from 0 to 1, shown in per cent over a bar.
    """
    columns = columns_of(rows)
    texts = {name: [_text(row.get(name), name in bars) for row in rows] for name in columns}
    numbers = {name: numeric(texts[name]) for name in columns}
    cells = [
        [
            {
                "text": texts[name][index],
                "number": numbers[name],
                "bar": row.get(name) if name in bars else None,
                "sort": row.get(name) if isinstance(row.get(name), int | float) else None,
            }
            for name in columns
        ]
        for index, row in enumerate(rows)
    ]
    heads = [{"name": name, "number": numbers[name]} for name in columns]
    return {"caption": caption, "columns": heads, "rows": cells, "sortable": sortable}


def _text(value: Any, share: bool) -> str:
    if share and isinstance(value, int | float):
        return f"{value:.1%}"
    return shown(value)


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, Any]:
    """A matrix of counts (C, C) with a row for each true class, coloured by its share of the row."""
    rows = []
    for true, row in enumerate(counts):
        total = max(sum(row), 1)
        cells = [
            {
                "count": count,
                "name": names[said],
                "share": round(count / total, 3),
                "kind": "zero" if not count else "right" if said == true else "wrong",
            }
            for said, count in enumerate(row)
        ]
        rows.append({"name": names[true], "cells": cells})
    return {"names": list(names), "rows": rows}


def heat(counts: Sequence[Sequence[int]]) -> str:
    """The address of a picture of a matrix of counts (C, C), a pixel a cell, by its share of the row."""
    import numpy as np

    array = np.asarray(counts, dtype=np.float64)
    share = (array / np.maximum(array.sum(1, keepdims=True), 1)) ** 0.5
    dark, bright = np.array([24.0, 28.0, 44.0]), np.array([255.0, 214.0, 120.0])
    picture = Image.fromarray((dark + share[..., None] * (bright - dark)).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def data_uri(image: Image.Image, side: int = THUMBNAIL) -> str:
    """An image as the address of itself, at most so large; a small one is enlarged without smoothing."""
    image = image.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, side))
    elif max(image.size) * 2 <= side:
        factor = side // max(image.size)
        image = image.resize([edge * factor for edge in image.size], Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
