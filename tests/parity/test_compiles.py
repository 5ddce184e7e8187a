"""The loop of images goes through torch's compiler in one graph, with every method in it."""

from typing import Any

import pytest
import torch

import vpt
from tests.few import few
from tests.zoo import images_for, vit
from vpt.loops import encode_images
from vpt.methods import available

METHODS = sorted(name for name, kind in available().items() if "linear" in kind.heads)
# A frame of 30 pixels leaves nothing of small images.
OPTIONS: dict[str, dict[str, Any]] = {"pixel": {"size": 4}}


@pytest.mark.parametrize("name", few(METHODS, {"vpt-deep", "ssf", "lora"}))
def test_a_pass_is_one_graph_and_gives_the_same(name: str) -> None:
    torch._dynamo.reset()
    model = vpt.attach(vit(), name, num_classes=3, head="linear", **OPTIONS.get(name, {}))
    images = images_for(vit())
    compiled = torch.compile(encode_images, fullgraph=True, backend="eager")
    expected = encode_images(model.tower, model.method, images, None)
    assert torch.equal(compiled(model.tower, model.method, images, None), expected)
