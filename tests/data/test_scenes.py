"""Generated scenes: the same every time, what is held out is held out, and captions are true of the picture."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import ConvexHull

import vpt
from vpt import VptError
from vpt.data.drawing import COLOURS, SHAPES, SIZES, Thing, draw
from vpt.data.scenes import HELD_OUT, NUMBERS, PHRASES, RELATIONS, SEEN, ScenePairs

DATA = vpt.data.load("scenes", train=300, val=200, test=200)


def met(pairs: ScenePairs) -> list[set[tuple[str, str]]]:
    """Pairs of colour and shape in each scene, as its captions tell them."""
    thing = re.compile(rf"({'|'.join(COLOURS)}) ({'|'.join([*SHAPES.values(), *SHAPES])})\b")
    singular = {plural: shape for shape, plural in SHAPES.items()}
    found = []
    for captions in pairs.captions:
        told = {(colour, singular.get(shape, shape)) for text in captions for colour, shape in thing.findall(text)}
        found.append(told)
    return found


def test_held_out_pairs_are_in_every_test_scene_and_in_no_other() -> None:
    assert all(not HELD_OUT & told for told in met(DATA.train) + met(DATA.val))
    assert all(HELD_OUT & told for told in met(DATA.test))


def test_training_shows_every_other_pair_and_so_every_colour_and_shape() -> None:
    assert set().union(*met(vpt.data.load("scenes", train=1500).train)) == set(SEEN)
    assert {colour for colour, _ in SEEN} == set(COLOURS)
    assert {shape for _, shape in SEEN} == set(SHAPES)


def test_no_two_scenes_of_val_or_of_test_have_a_caption_in_common() -> None:
    for pairs in (DATA.val, DATA.test):
        every = [text for captions in pairs.captions for text in captions]
        assert len(set(every)) == len(every) == 4 * len(pairs)


def test_scenes_are_the_same_every_time_and_others_for_another_seed_of_theirs() -> None:
    again = vpt.data.load("scenes", train=300, val=200, test=200, seed=5)
    assert again.facts() == DATA.facts()
    assert all(again.train.image(i).tobytes() == DATA.train.image(i).tobytes() for i in range(20))
    other = vpt.data.load("scenes", train=300, val=200, test=200, scene_seed=1)
    assert other.facts()["digests"]["train"] != DATA.facts()["digests"]["train"]


def test_fewer_scenes_are_the_first_of_more() -> None:
    assert vpt.data.load("scenes", train=9).train.captions == DATA.train.captions[:9]
    part = DATA.train.subset([7, 3])
    assert part.captions == [DATA.train.captions[i] for i in (7, 3)]
    assert part.name(0) == "scenes train[7]"
    assert part.image(1).tobytes() == DATA.train.image(3).tobytes()


def parts_of(image: np.ndarray) -> list[tuple[float, float, float, str]]:
    """Centre (x, y) as shares of the side, extent and colour's name of each thing in a picture."""
    ground = np.median(image.reshape(-1, 3), axis=0)
    labels, count = ndimage.label(np.abs(image.astype(float) - ground).max(-1) > 25, np.ones((3, 3)))
    side = image.shape[0]
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = image[labels == index].astype(float)
        near = {name: (np.abs(inside - colour).max(-1) <= 12).sum() for name, colour in COLOURS.items()}
        extent = max(rows.stop - rows.start, columns.stop - columns.start) / side
        y, x = (rows.start + rows.stop) / 2 / side, (columns.start + columns.stop) / 2 / side
        found.append((x, y, extent, max(near, key=near.__getitem__)))
    assert len(found) == count
    return found


@pytest.mark.parametrize("split", ["train", "test"])
def test_captions_are_true_of_the_pixels(split: str) -> None:
    """How many things there are, of which colour and size, and where, read from the picture alone."""
    pairs = DATA.splits()[split]
    thing = rf"(small|large) ({'|'.join(COLOURS)}) \w+"
    numbers = {word: number for number, word in NUMBERS.items()}
    for index in range(len(pairs)):
        seen = parts_of(np.asarray(pairs.image(index)))
        for text in pairs.captions[index]:
            counts = [numbers[word] for word in text.replace(",", "").split() if word in numbers]
            told = re.findall(thing, text)
            if counts:
                assert len(seen) == counts[0]
                assert all(colour in text for *_, colour in seen)
            elif len(told) < 2:
                assert len(seen) == 1
                assert seen[0][3] in text
                assert ("large" in text) == (seen[0][2] > 0.22)
            else:
                axis = 1 if re.search(r"above|below|top|underneath", text) else 0
                first, second = sorted(seen, key=lambda part: part[axis])
                order = (second, first) if re.search("to the right of|below", text) else (first, second)
                assert [colour for _, colour in told] == [colour for *_, colour in order]
                assert [size == "large" for size, _ in told] == [extent > 0.22 for _, _, extent, _ in order]


@given(
    st.sampled_from(list(SIZES)),
    st.sampled_from(list(COLOURS)),
    st.sampled_from(list(SHAPES)),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_as_many_things_are_drawn_as_are_asked_for(size: str, colour: str, shape: str, count: int, seed: int) -> None:
    things = (Thing("small" if count > 1 else size, colour, shape),) * count
    image = np.asarray(draw(things, "", side=64, seed=seed))
    assert [colour for *_, colour in parts_of(image)] == [colour] * count


# Area in units of the square of the radius, and as a share of the convex hull's.
FORMS = {
    "circle": (3.14, 1.0), "square": (2.0, 1.0), "triangle": (1.30, 1.0),
    "star": (1.32, 0.55), "cross": (1.93, 0.70), "ring": (2.01, 0.64),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_form_of_their_name(shape: str, seed: int) -> None:
    mask = np.asarray(draw([Thing("large", "white", shape)], "", side=256, seed=seed)).min(-1) > 200
    points = np.argwhere(mask).astype(float)
    radius = np.linalg.norm(points - points.mean(0), axis=1).max()
    assert abs(mask.sum() / radius**2 - FORMS[shape][0]) < 0.12
    assert abs(mask.sum() / ConvexHull(points).volume - FORMS[shape][1]) < 0.05
    assert (ndimage.binary_fill_holes(mask).sum() > mask.sum()) == (shape == "ring")


@given(st.sampled_from(RELATIONS), st.integers(0, 2**32 - 1))
def test_two_things_stand_as_their_relation_says(relation: str, seed: int) -> None:
    things = Thing("large", "red", "circle"), Thing("large", "blue", "square")
    found = {colour: (x, y) for x, y, _, colour in parts_of(np.asarray(draw(things, relation, side=64, seed=seed)))}
    axis = RELATIONS.index(relation)
    assert found["red"][axis] < found["blue"][axis] - 0.3
    assert abs(found["red"][1 - axis] - found["blue"][1 - axis]) < 0.25


def test_every_kind_of_scene_has_as_many_phrasings() -> None:
    assert {len(set(phrases)) for phrases in PHRASES.values()} == {4}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train": -1}, "data.train=-1 scenes cannot be drawn: give 0 to 10000000"),
        ({"test": 5000}, "data.test=5000 scenes cannot be drawn: give 0 to 4000"),
        ({"side": 8}, "data.side=8 pixels do not show"),
    ],
)
def test_scenes_that_cannot_be_drawn(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.data.load("scenes", **options)
    assert sentence in str(error.value)


def test_there_are_as_many_different_scenes_as_may_be_asked_for() -> None:
    data = vpt.data.load("scenes", train=0, val=4000, test=4000)
    assert {split: len(pairs) for split, pairs in data.splits().items()} == {"val": 4000, "test": 4000}
