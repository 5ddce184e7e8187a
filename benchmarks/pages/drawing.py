"""Small SVG pictures that are legible on a light and on a dark page: they bring a ground of their own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# By class: the light colour, the dark one.
COLOURS = {
    "ground": ("#ffffff", "#1c2128"),
    "ink": ("#24292f", "#e6edf3"),
    "quiet": ("#57606a", "#9ea7b3"),
    "frozen": ("#dfe3e8", "#3d444d"),
    "learned": ("#e8590c", "#ff922b"),
    "line": ("#8c959f", "#768390"),
}


def _style() -> str:
    """Shapes are filled, `l-…` are lines; a reader's dark page is told by the browser."""

    def rules(dark: bool) -> str:
        return "".join(
            f".{name}{{fill:{pair[dark]}}}.l-{name}{{fill:none;stroke:{pair[dark]}}}" for name, pair in COLOURS.items()
        )

    return f"<style>{rules(False)}@media(prefers-color-scheme:dark){{{rules(True)}}}</style>"


def picture(width: int, height: int, title: str, shapes: Sequence[str]) -> str:
    """A whole file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="Helvetica,Arial,sans-serif" font-size="12" role="img">',
            f"<title>{escape(title)}</title>",
            _style(),
            f'<rect class="ground" width="{width}" height="{height}" rx="8"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def boxes(places: Sequence[tuple[float, float, float, float]], kind: str) -> str:
    """Rectangles (x, y, width, height) of one colour, as one path."""
    path = "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h{-w:g}z" for x, y, w, h in places)
    return f'<path class="{kind}" d="{path}"/>' if path else ""


def lines(places: Sequence[tuple[float, float, float, float]], kind: str, width: float = 1.5, dash: str = "") -> str:
    """Lines from (x1, y1) to (x2, y2)."""
    path = "".join(f"M{a:g} {b:g}L{c:g} {d:g}" for a, b, c, d in places)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="l-{kind}" stroke-width="{width:g}"{dashed} d="{path}"/>' if path else ""


def words(x: float, y: float, text: str, kind: str = "ink", anchor: str = "middle", size: int = 12) -> str:
    """One line of text."""
    sized = "" if size == 12 else f' font-size="{size}"'
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"{sized}>{escape(text)}</text>'
