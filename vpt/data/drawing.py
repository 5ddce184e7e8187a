"""Plain shapes on plain ground, drawn with PIL."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vpt.errors import VptError

# Names and their plurals.
SHAPES = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
    "ring": "rings",
}
COLOURS = {
    "red": (215, 30, 35),
    "green": (25, 150, 50),
    "blue": (35, 70, 220),
    "yellow": (245, 225, 45),
    "purple": (130, 35, 160),
    "orange": (250, 135, 20),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}
# Range of the radius, as a share of the picture's side.
SIZES = {"small": (0.08, 0.10), "large": (0.15, 0.18)}


@dataclass(frozen=True)
class Thing:
    """A shape of a colour and a size."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


def check_side(side: int) -> None:
    """Nothing, if a picture of so many pixels a side shows what shape a thing is, and can be drawn.

    Raises:
        VptError: it does not, or cannot.
    """
    if not 24 <= side <= 2048:
        raise VptError(f"data.side={side} pixels do not show what shape a thing is, or too many: give 24 to 2048.")


def draw(things: Sequence[Thing], relation: str, *, side: int, seed: int) -> Image.Image:
    """A picture of `things` that do not touch, in RGB; what is left open follows from `seed`.

    Args:
        things: one, several, or two in a relation.
        relation: "left of" or "above", said of the first of two; "" for none.
        side: of the picture, in pixels.
        seed: of places, shades, turns and the ground.
    """
    generator = random.Random(seed)
    grey = generator.randint(115, 165)
    ground = _shade((grey, grey, grey), generator)
    fine = 4 * side  # Drawn four times as large, so that the edges become smooth.
    picture = Image.new("RGB", (fine, fine), ground)
    pen = ImageDraw.Draw(picture)
    radii = [generator.uniform(*SIZES[thing.size]) for thing in things]
    for thing, radius, (x, y) in zip(things, radii, _places(radii, relation, generator), strict=True):
        colour = _shade(COLOURS[thing.colour], generator)
        turn = generator.uniform(-0.15, 0.15)
        _shape(pen, thing.shape, x * fine, y * fine, radius * fine, turn, colour)
    return picture.resize((side, side), Image.Resampling.BOX)


def _places(radii: Sequence[float], relation: str, generator: random.Random) -> list[tuple[float, float]]:
    """A centre for each thing, as shares of the side."""
    if relation:
        along = generator.uniform(0.22, 0.28), generator.uniform(0.72, 0.78)
        across = generator.uniform(0.4, 0.6), generator.uniform(0.4, 0.6)
        places = list(zip(along, across, strict=True))
        return places if relation == "left of" else [(x, y) for y, x in places]
    places = []
    for radius in radii:
        while True:
            place = generator.uniform(radius + 0.02, 0.98 - radius), generator.uniform(radius + 0.02, 0.98 - radius)
            if all(math.dist(place, other) > 2.8 * radius for other in places):
                break
        places.append(place)
    return places


def _shape(
    pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, turn: float, colour: tuple[int, ...]
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "ring":
        pen.ellipse(box, outline=colour, width=round(0.4 * radius))
    else:
        pen.polygon([(x + radius * px, y + radius * py) for px, py in _corners(shape, turn)], fill=colour)


def _corners(shape: str, turn: float) -> list[tuple[float, float]]:
    """Corners of a shape of radius 1 around the origin, turned by `turn` radians."""
    if shape == "cross":
        arm = 0.3
        outline = [(arm, 0.95), (arm, arm), (0.95, arm), (0.95, -arm), (arm, -arm), (arm, -0.95)]
        polar = [(math.atan2(y, x), math.hypot(x, y)) for x, y in [*outline, *((-x, -y) for x, y in outline)]]
    else:
        count, inner = {"square": (4, 0.0), "triangle": (3, 0.0), "star": (10, 0.45)}[shape]
        start = -math.pi / 4 if shape == "square" else -math.pi / 2
        lengths = [inner if inner and i % 2 else 1.0 for i in range(count)]
        polar = [(start + 2 * math.pi * i / count, length) for i, length in enumerate(lengths)]
    return [(length * math.cos(angle + turn), length * math.sin(angle + turn)) for angle, length in polar]


def _shade(colour: tuple[int, int, int], generator: random.Random) -> tuple[int, int, int]:
    """`colour`, each channel a little lighter or darker."""
    red, green, blue = (min(255, max(0, value + generator.randint(-10, 10))) for value in colour)
    return red, green, blue
