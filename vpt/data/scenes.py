"""Generated scenes with captions: shapes of a colour, a size, a count or a relation, drawn here, not photographed.

A task for images and text that needs no file. Pairs of colour and shape are held out: none of them occurs in the
training or validation scenes, and every test scene has one, so that the test asks for what was never seen together
(compositional generalisation, as Lake & Baroni, "Generalization without Systematicity", ICML 2018, ask it of text).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from PIL import Image

from vpt.data.drawing import COLOURS, SHAPES, SIZES, Thing, check_side, draw
from vpt.data.pairs import Pairs, PairSet
from vpt.errors import VptError

NAMES = ("scenes",)

# One shape of each colour; every colour and every shape is seen in training with others.
HELD_OUT = frozenset((colour, tuple(SHAPES)[i % len(SHAPES)]) for i, colour in enumerate(COLOURS))
SEEN = tuple(pair for pair in product(COLOURS, SHAPES) if pair not in HELD_OUT)

NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATIONS = ("left of", "above")

# Scenes of validation and test all differ in meaning; there are more than so many of either.
MOST = 4000
# Training scenes may mean the same, but are all held in memory.
MOST_TRAINING = 10_000_000

PHRASES = {
    "one": (
        "a {a}",
        "there is a {a}",
        "a picture of one {a}",
        "a {size} {shape} that is {colour}",
    ),
    "several": (
        "{n} {colour} {shapes}",
        "there are {n} {colour} {shapes}",
        "a picture of {n} {shapes}, all of them {colour}",
        "{colour} {shapes}, {n} of them",
    ),
    "left of": (
        "a {a} to the left of a {b}",
        "a {b} to the right of a {a}",
        "there is a {a} on the left and a {b} on the right",
        "on the right of a {a} there is a {b}",
    ),
    "above": (
        "a {a} above a {b}",
        "a {b} below a {a}",
        "there is a {a} at the top and a {b} at the bottom",
        "underneath a {a} there is a {b}",
    ),
}


@dataclass(frozen=True)
class Scene:
    """What is to be seen: one thing, several alike, or two of which the first is left of or above the second.

    Attributes:
        things: of the picture.
        relation: of the two things, or "".
        look: seed of everything that captions do not tell: places, shades, the ground.
    """

    things: tuple[Thing, ...]
    relation: str
    look: int

    @property
    def kind(self) -> str:
        """A key of `PHRASES`."""
        return self.relation or ("one" if len(self.things) == 1 else "several")

    def captions(self) -> tuple[str, ...]:
        """Every phrasing, in an order that the look decides."""
        first, last = self.things[0], self.things[-1]
        words = {
            "a": str(first), "b": str(last), "n": NUMBERS.get(len(self.things), ""),
            "size": first.size, "colour": first.colour, "shape": first.shape, "shapes": SHAPES[first.shape],
        }  # fmt: skip
        said = [phrase.format(**words) for phrase in PHRASES[self.kind]]
        return tuple(random.Random(self.look).sample(said, len(said)))


class ScenePairs(Pairs):
    """Scenes, drawn when asked for."""

    def __init__(self, scenes: Sequence[Scene], side: int, title: str, rows: Sequence[int] | None = None) -> None:
        self.scenes = list(scenes)
        self.side = side
        self.title = title
        self.rows = list(rows) if rows is not None else list(range(len(scenes)))
        self.captions = [scene.captions() for scene in scenes]

    def image(self, index: int) -> Image.Image:
        """The drawing, (side, side)."""
        scene = self.scenes[index]
        return draw(scene.things, scene.relation, side=self.side, seed=scene.look)

    def name(self, index: int) -> str:
        """Its number, e.g. "scenes train[17]"."""
        return f"{self.title}[{self.rows[index]}]"

    def subset(self, indices: Sequence[int]) -> ScenePairs:
        """Those at `indices`, in this order."""
        return ScenePairs([self.scenes[i] for i in indices], self.side, self.title, [self.rows[i] for i in indices])


def load(
    name: str, *, train: int = 4000, val: int = 400, test: int = 400, side: int = 64, scene_seed: int = 0
) -> PairSet:
    """Generated scenes with four captions each.

    Args:
        name: "scenes".
        train: how many training scenes; 0 for none.
        val: how many validation scenes, all different in meaning and of pairs seen in training; 0 for none.
        test: how many test scenes, all different in meaning and each with a held-out pair; 0 for none.
        side: of the images, in pixels.
        scene_seed: what is drawn. The seed of the experiment does not change it, so that test scenes stay.

    Raises:
        VptError: a count below 0, more scenes than there are, or images too small to tell shapes apart.
    """
    for split, count in (("train", train), ("val", val), ("test", test)):
        if not 0 <= count <= (MOST_TRAINING if split == "train" else MOST):
            most = f"{MOST}, as there are not many more different ones"
            bound = f"0 to {MOST_TRAINING if split == 'train' else most}"
            raise VptError(f"data.{split}={count} scenes cannot be drawn: give {bound}.")
    check_side(side)
    splits = {
        split: ScenePairs(_scenes(split, count, scene_seed), side, f"{name} {split}")
        for split, count in (("train", train), ("val", val), ("test", test))
    }
    return PairSet(name, splits["train"], splits["val"] if val else None, splits["test"] if test else None)


def _scenes(split: str, count: int, seed: int) -> list[Scene]:
    """`count` scenes; those of val and test all differ in their things or relation."""
    generator = random.Random(f"{seed} {split}")
    scenes: list[Scene] = []
    met: set[tuple[tuple[Thing, ...], str]] = set()
    while len(scenes) < count:
        scene = _scene(generator, held_out=split == "test")
        meaning = scene.things, scene.relation
        if split == "train" or meaning not in met:
            scenes.append(scene)
        met.add(meaning)
    return scenes


def _scene(generator: random.Random, held_out: bool) -> Scene:
    """A scene of seen pairs of colour and shape, or with one that is held out."""

    def thing(pairs: Sequence[tuple[str, str]], size: str | None = None) -> Thing:
        colour, shape = generator.choice(pairs)
        return Thing(size or generator.choice(tuple(SIZES)), colour, shape)

    pairs = sorted(HELD_OUT) if held_out else SEEN
    kind = generator.choice(("one", "several", "two"))
    look = generator.getrandbits(32)
    if kind == "one":
        return Scene((thing(pairs),), "", look)
    if kind == "several":
        # Size is relative, and nothing is there to compare with: captions of several things do not tell it.
        return Scene((thing(pairs, "small"),) * generator.choice(tuple(NUMBERS)), "", look)
    first, second = thing(pairs), thing(sorted(HELD_OUT | set(SEEN)) if held_out else SEEN)
    while (second.colour, second.shape) == (first.colour, first.shape):
        second = thing(SEEN)
    things = (first, second) if generator.random() < 0.5 else (second, first)
    return Scene(things, generator.choice(RELATIONS), look)
