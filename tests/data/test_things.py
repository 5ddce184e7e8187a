"""Generated pictures of one thing, by colour and shape."""

import numpy as np
import pytest

import vpt


def test_every_class_has_its_images_and_they_stay_the_same() -> None:
    data, again = (vpt.data.load("things", train=2, val=1, test=1) for _ in range(2))
    assert len(data.classes) == 48
    assert np.bincount(data.train.labels).tolist() == [2] * 48
    assert all(np.array_equal(a.images, b.images) for a, b in ((data.train, again.train), (data.test, again.test)))
    assert data.facts()["digests"] == again.facts()["digests"]


def test_bad_counts_and_sides_are_refused() -> None:
    with pytest.raises(vpt.VptError, match="give 1 or more"):
        vpt.data.load("things", test=0)
    with pytest.raises(vpt.VptError, match="do not show what shape a thing is"):
        vpt.data.load("things", side=8)
