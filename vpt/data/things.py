"""Generated pictures of one thing, labelled by colour and shape: the labelled counterpart of the generated scenes."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np

from vpt.data.base import Arrays, DataSet
from vpt.data.drawing import COLOURS, SHAPES, SIZES, Thing, check_side, draw
from vpt.errors import VptError

NAMES = ("things",)

MOST_BYTES = 16e9


def load(name: str, *, train: int = 16, val: int = 4, test: int = 10, side: int = 48, scene_seed: int = 0) -> DataSet:
    """A class for each of eight colours and six shapes; drawn here, not photographed.

    Args:
        name: "things".
        train: training images a class.
        val: validation images a class.
        test: test images a class.
        side: of the images, in pixels.
        scene_seed: what is drawn; the seed of the experiment does not change it.

    Raises:
        VptError: a count below 1, or images too small to tell shapes apart.
    """
    if min(train, val, test) < 1:
        raise VptError("data.train, data.val and data.test are images a class of the things: give 1 or more.")
    check_side(side)
    size = (train + val + test) * len(COLOURS) * len(SHAPES) * side**2 * 3
    if size > MOST_BYTES:
        raise VptError(f"the things would take {size / 1e9:.0f} GB, as they are held in memory: give fewer or smaller.")
    pairs = list(product(COLOURS, SHAPES))
    splits: dict[str, Any] = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        generator = random.Random(f"{scene_seed} {split}")
        labels = [label for label in range(len(pairs)) for _ in range(count)]
        things = [Thing(generator.choice(tuple(SIZES)), *pairs[label]) for label in labels]
        images = [np.asarray(draw((thing,), "", side=side, seed=generator.getrandbits(32))) for thing in things]
        splits[split] = Arrays(np.stack(images), labels, f"{name} {split}")
    classes = tuple(f"{colour} {shape}" for colour, shape in pairs)
    return DataSet(name, classes, **splits, templates=("a picture of one {}.",))
