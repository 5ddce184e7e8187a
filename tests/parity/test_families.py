"""Families beside the plain Vision Transformer obey the laws, and each of their blocks is opened."""

import pytest
import torch

from tests.tower_zoo import FAMILIES, SLOW
from vpt.testing import check_tower
from vpt.towers.load import wrap


def rows() -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FAMILIES]


@pytest.mark.parametrize("name", rows())
def test_a_family_is_opened_and_obeys_the_laws(name: str) -> None:
    example = FAMILIES[name]
    model, images = example.make().float(), example.images(2, torch.float32)
    tower = wrap(model).tower
    errors = check_tower(tower, images=images, features=lambda x: example.features(model, x))
    assert errors["identity"] == 0
    assert {tower.path(layer).partition(":")[0] for layer in range(tower.depth)} == {"opened"}
