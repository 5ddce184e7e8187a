"""Two threads for every test, no network, and the small models that tests share."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from tests.zoo import BACKBONES


def pytest_configure() -> None:
    torch.set_num_threads(2)


@pytest.fixture(params=BACKBONES, ids=list(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> torch.nn.Module:
    """A small random model of each architecture, in float64 and evaluation mode."""
    return BACKBONES[request.param]().double()
