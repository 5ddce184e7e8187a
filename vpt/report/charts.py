"""Charts as SVG, strings alone: colours are CSS variables, so that a page's light and dark hold for them too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 40
COLOURS = 8

Points = Sequence[tuple[float, float]]


def colour(number: int) -> str:
    """Of series 0, 1, …"""
    return f"var(--series-{number % COLOURS + 1})"


class Axes:
    """Where values stand in a chart.

    Args:
        x: from and to.
        y: from and to.
        log: x goes by powers of ten.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, log: bool = False) -> None:
        self.log = log
        self.x0, self.x1 = (math.log10(max(value, 1e-12)) if log else value for value in x)
        self.y0, self.y1 = y
        if self.x1 - self.x0 < 1e-9:
            self.x0, self.x1 = self.x0 - 0.5, self.x1 + 0.5
        if self.y1 - self.y0 < 1e-9:
            self.y0, self.y1 = self.y0 - 0.5, self.y1 + 0.5

    def x(self, value: float) -> float:
        """Pixels from the left."""
        value = math.log10(max(value, 1e-12)) if self.log else value
        return round(LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return round(HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self, x_title: str, y_title: str, *, percent: bool = False) -> str:
        """Lines, numbers and titles."""
        parts = []
        ticks = _ticks(self.y0, self.y1)
        fine = len(ticks) > 1 and ticks[1] - ticks[0] < 0.00999
        for value in ticks:
            y = self.y(value)
            shown = f"{value:.{int(fine)}%}" if percent else _short(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">{shown}</text>')
        for value in self._x_ticks():
            x = self.x(value)
            parts.append(
                f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_short(value)}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
        parts.append(
            f'<text class="axis" transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_title)}</text>'
        )
        return "".join(parts)

    def _x_ticks(self) -> list[float]:
        if not self.log:
            found = _ticks(self.x0, self.x1)
            # Epochs are whole: there is nothing at one and a half.
            whole = [value for value in found if value.is_integer()]
            return whole if len(whole) > 1 and self.x1 - self.x0 >= 2 else found
        powers = range(math.floor(self.x0), math.ceil(self.x1) + 1)
        factors = (1,) if len(powers) > 4 else (1, 2, 5)
        every = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in every if self.x0 - 1e-9 <= math.log10(value) <= self.x1 + 1e-9]


def svg(inside: str, title: str) -> str:
    """A whole chart, which says by `title` what it shows to those who do not see it."""
    said = escape(title)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{inside}</svg>'


def curves(
    series: Mapping[str, Points], x_title: str, y_title: str, *, percent: bool = False, x_from: float | None = None
) -> str:
    """Lines of several series over one x, each with points that tell their values; nothing where there are none."""
    points = [point for each in series.values() for point in each if math.isfinite(point[1])]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    low, high = min(ys), max(ys)
    room = (high - low) * 0.06 or 0.02
    bottom = max(0.0, low - room) if low >= 0 else low - room
    top = min(1.0, high + room) if percent else high + room
    axes = Axes((min(xs) if x_from is None else x_from, max(xs)), (bottom, top))
    parts = [axes.grid(x_title, y_title, percent=percent)]
    for number, (name, values) in enumerate(series.items()):
        known = [(x, y) for x, y in values if math.isfinite(y)]
        path = " ".join(f"{axes.x(x)},{axes.y(y)}" for x, y in known)
        parts.append(f'<polyline class="line" style="stroke:{colour(number)}" points="{path}"/>')
        for x, y in known if len(known) <= 60 else known[-1:]:
            shown = f"{y:.1%}" if percent else f"{y:.4g}"
            parts.append(
                f'<circle class="dot" style="fill:{colour(number)}" cx="{axes.x(x)}" cy="{axes.y(y)}" r="3">'
                f"<title>{escape(name)}: {shown} at {_short(x)}</title></circle>"
            )
    return svg("".join(parts), f"{y_title} by {x_title} of {', '.join(series)}") + legend(list(series))


def legend(names: Sequence[str]) -> str:
    """Names beside their colours; nothing for one alone."""
    if len(names) < 2:
        return ""
    items = (f'<li><i style="background:{colour(n)}"></i>{escape(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def reliability(rows: Sequence[Mapping[str, float]], title: str) -> str:
    """Accuracy by confidence, a bar a bin, beside the diagonal on which both are the same."""
    axes = Axes((0, 1), (0, 1))
    parts = [axes.grid("confidence", "accuracy", percent=True)]
    for row in rows:
        left, right = axes.x(row["from"]), axes.x(row["to"])
        y, floor = axes.y(row["accuracy"]), axes.y(0)
        said = f"{row['images']:.0f} images, confidence {row['confidence']:.1%}, accuracy {row['accuracy']:.1%}"
        parts.append(
            f'<rect class="bar" x="{left + 1}" width="{right - left - 2:.1f}" y="{y}" '
            f'height="{max(floor - y, 0.8):.1f}"><title>{said}</title></rect>'
        )
        gap = sorted((y, axes.y(row["confidence"])))
        parts.append(
            f'<rect class="gap" x="{left + 1}" width="{right - left - 2:.1f}" y="{gap[0]}" '
            f'height="{gap[1] - gap[0]:.1f}"><title>{said}</title></rect>'
        )
    parts.append(f'<line class="diagonal" x1="{axes.x(0)}" y1="{axes.y(0)}" x2="{axes.x(1)}" y2="{axes.y(1)}"/>')
    return svg("".join(parts), title)


def intervals(rows: Sequence[Mapping[str, float | str]], x_title: str, y_title: str) -> str:
    """Points with their intervals and names over a logarithmic x.

    Args:
        rows: "name", "x" (0 or more, 0 stands at the left), "y", "low" and "high".
        x_title: below.
        y_title: at the side.
    """
    xs = [max(float(row["x"]), 1.0) for row in rows]
    low, high = min(float(row["low"]) for row in rows), max(float(row["high"]) for row in rows)
    room = (high - low) * 0.12 or 0.05
    axes = Axes((min(xs) / 2, max(xs) * 3), (max(0.0, low - room), min(1.0, high + room)), log=True)
    parts = [axes.grid(x_title, y_title, percent=True)]
    taken: list[tuple[float, float]] = []
    for number, (row, value) in enumerate(zip(rows, xs, strict=True)):
        x, y = axes.x(value), axes.y(float(row["y"]))
        bottom, top = axes.y(float(row["low"])), axes.y(float(row["high"]))
        said = f"{row['name']}: {float(row['y']):.1%}, {float(row['low']):.1%} to {float(row['high']):.1%}"
        style = colour(number)
        parts.append(
            f'<g style="stroke:{style}"><line class="whisker" x1="{x}" x2="{x}" y1="{bottom}" y2="{top}"/>'
            f'<line class="whisker" x1="{x - 4}" x2="{x + 4}" y1="{top}" y2="{top}"/>'
            f'<line class="whisker" x1="{x - 4}" x2="{x + 4}" y1="{bottom}" y2="{bottom}"/></g>'
            f'<circle class="dot" style="fill:{style}" cx="{x}" cy="{y}" r="5"><title>{escape(said)}</title></circle>'
        )
        beside = y + 4
        while any(abs(x - other) < 90 and abs(beside - height) < 13 for other, height in taken):
            beside += 13
        taken.append((x, beside))
        anchor, beside_x = ("end", x - 9) if x > WIDTH * 0.72 else ("start", x + 9)
        name = escape(str(row["name"]))
        parts.append(f'<text class="name" x="{beside_x}" y="{beside:.1f}" text-anchor="{anchor}">{name}</text>')
    return svg("".join(parts), f"{y_title} by {x_title}")


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two values."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round(float(number * step), 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    if value and abs(value) >= 1000:
        power = 1_000_000 if abs(value) >= 1_000_000 else 1000
        return f"{value / power:g}{'M' if power > 1000 else 'k'}"
    return f"{value:g}"
