"""Few threads for every test, no network, no GPU, and the small models that tests share."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# On the CPU also where there is a GPU; `make test-gpu` says otherwise.
os.environ.update({} if os.environ.get("VPT_TEST_GPU") else {"CUDA_VISIBLE_DEVICES": ""})
# What nothing foresaw is a fault, and is to be seen whole.
os.environ.setdefault("VPT_TRACEBACK", "1")

import pytest
import torch

from tests.zoo import EXAMPLES, Example


def pytest_configure() -> None:
    # Each of several workers has a core.
    torch.set_num_threads(1 if os.environ.get("PYTEST_XDIST_WORKER") else 2)
    # Where a process first goes back through a compiled function, autograd starts threads, and none that is forked from
    # it, as tests/kills.py does, can go back at all.
    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(params=EXAMPLES, ids=list(EXAMPLES))
def example(request: pytest.FixtureRequest) -> Example:
    """Each architecture in turn."""
    return EXAMPLES[request.param]
