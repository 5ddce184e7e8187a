"""`torch.export` of any model as it stands: one program for batches of every size."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import EXAMPLES, vit
from vpt.methods import available, find

# Where the defaults do not suit small images.
OPTIONS: dict[str, dict[str, Any]] = {"pixel": {"size": 3}}
IMAGE_TEXT = sorted(name for name in available() if "text" in find(name).heads and name != "cocoop")
LINEAR = sorted(name for name in available() if "linear" in find(name).heads)


def exported(model: vpt.Prompted, images: Tensor) -> nn.Module:
    """The program that is traced with these images, for any number of them."""
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    return program.module()


def assert_same_for_other_batches(model: vpt.Prompted, images: Tensor, module: nn.Module) -> None:
    for batch in (images[:2], torch.cat([images, images.flip(0) * 0.5])):
        torch.testing.assert_close(module(batch), model(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name if name == "maple" else pytest.param(name, marks=pytest.mark.slow) for name in IMAGE_TEXT]
)
def test_a_model_with_class_names_is_exported(name: str) -> None:
    model = vpt.attach(image_text_model(), name, classes=CLASSES, head="text", **OPTIONS.get(name, {}))
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert_same_for_other_batches(model, images, exported(model, images))


def test_what_is_traced_is_not_remembered() -> None:
    model = vpt.attach(image_text_model(), "coop", classes=CLASSES)
    images = torch.randn(3, 3, 16, 16)
    exported(model, images)
    expected = vpt.attach(image_text_model(), "coop", classes=CLASSES)
    expected.load_tuned_state(model.tuned_state())
    assert torch.equal(model(images), expected(images))


@pytest.mark.parametrize("folded", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["as it is", "compiled"])
@pytest.mark.parametrize(
    "method", [name if name == "vpt-deep" else pytest.param(name, marks=pytest.mark.slow) for name in LINEAR]
)
def test_a_model_with_a_linear_head_is_exported(method: str, folded: bool) -> None:
    model = vpt.attach(vit(), method, num_classes=4, head="linear", **OPTIONS.get(method, {}))
    model = model.compile_prompts() if folded else model
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert_same_for_other_batches(model, images, exported(model, images))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "vpt-shallow", "vpt-deep"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_architecture_is_exported(name: str, method: str) -> None:
    example = EXAMPLES[name]
    model = vpt.attach(example.make(), method, num_classes=4).float()
    images = example.images(dtype=torch.float32)
    assert_same_for_other_batches(model, images, exported(model, images))
