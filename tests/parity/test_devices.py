"""Steps on a device that is not the CPU, acted out: nothing is left on the CPU, and no value is waited for."""

from typing import Any

import pytest
import torch
from torch import Tensor

import vpt
from tests.devices import OneDevice
from tests.few import few
from tests.taught import taught
from tests.text_models import CLASSES, image_text_model
from tests.text_zoo import TEXT_EXAMPLES
from tests.zoo import EXAMPLES
from vpt import VptError
from vpt.methods import available
from vpt.methods.base import Method
from vpt.tasks.classification import Classification
from vpt.tasks.image_text import ImageText
from vpt.text import TextSide
from vpt.towers.load import wrap

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # A frame of 30 pixels leaves nothing of small images.
    **{name: (name, {"size": 4} if name == "pixel" else {}) for name in available()},
    "class-specific context": ("coop", {"csc": True}),
    "context around names": ("coop", {"position": "middle"}),
    "prompt dropout": ("vpt-deep", {"dropout": 0.4}),
    "projected": ("vpt-deep", {"project": 6}),
}


def on_device(name: str, options: dict[str, Any]) -> vpt.Prompted:
    model = taught(vpt.attach(image_text_model(), name, classes=CLASSES, **options))
    if model.method.classifier.needs_features:
        images, labels = torch.nn.functional.normalize(torch.randn(6, 12), dim=-1), torch.arange(6) % 3
        model.method.classifier.prepare(images, labels, model.class_features(), torch.tensor(10.0))
    model.teacher_on(torch.device("meta"))
    return model.to("meta")


def batch() -> tuple[Tensor, Tensor]:
    return torch.empty(4, 3, 16, 16, device="meta"), torch.empty(4, dtype=torch.long, device="meta")


def test_what_is_asked_for_here_is_seen() -> None:
    here, there = torch.ones(2), torch.ones(2, device="meta")
    with OneDevice(), pytest.raises(AssertionError, match="is given tensors on"):
        torch.nn.functional.embedding(here.long(), there[:, None])
    with OneDevice(warm=True), pytest.raises(AssertionError, match=r"copies from \{'cpu'\} to \{'meta'\}"):
        here.to("meta")
    with OneDevice(warm=True), pytest.raises(AssertionError, match="copies from"):
        there[:1] = here[:1]
    with pytest.raises(RuntimeError, match="meta tensors"):
        int(there.max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_stays_on_its_device_and_reads_nothing(variant: str) -> None:
    model = on_device(*VARIANTS[variant]).train()
    tuned = [parameter for group in model.parameter_groups().values() for parameter in group]
    for warm in (False, True):
        with OneDevice(warm=warm):
            loss, _, _ = Classification(len(CLASSES)).loss(model, batch())
            if tuned:
                loss.backward()
    assert loss.device.type == "meta"
    # The rows of 2SFS wait for its second stage.
    waiting = model.method.classifier.weight if variant == "2sfs" else None
    reached = [parameter for parameter in tuned if parameter is not waiting]
    assert all(parameter.grad is not None and parameter.grad.device.type == "meta" for parameter in reached)


OTHERS = {"as trained": None, "reordered": CLASSES[::-1], "some": CLASSES[:2], "new": [CLASSES[0], "zebra", "tram"]}


@pytest.mark.parametrize("classes", few(OTHERS, ["as trained", "new"]))
@pytest.mark.parametrize("variant", VARIANTS)
def test_so_does_inference(variant: str, classes: str) -> None:
    model = on_device(*VARIANTS[variant]).eval()
    if OTHERS[classes] is not None:
        try:
            model.set_classes(OTHERS[classes])
        except VptError:
            # What was learned belongs to the classes that it was learned for: test_text and tests/methods say of which.
            return
    for warm in (False, True):
        with OneDevice(warm=warm), torch.inference_mode():
            assert model.eval()(batch()[0]).device.type == "meta"
            assert model.compile_prompts()(batch()[0]).shape == (4, len(model.classes))


@pytest.mark.parametrize("name", ["zero-shot", "vpt-deep", "ivlp", "maple", "full"])
def test_so_does_a_step_with_captions_whose_ids_are_on_the_cpu(name: str) -> None:
    model = vpt.attach(image_text_model(), name, classes=(), head="text").to("meta").train()
    ids = model.tokenize(["a dog", "a red car", "two trees and a dog", "a tree"])
    with OneDevice():
        loss, _, _ = ImageText().loss(model, (batch()[0], ids))
    assert loss.device.type == "meta"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_image_tower_does(name: str) -> None:
    example = EXAMPLES[name]
    model = vpt.attach(example.make(), "vpt-deep", num_tokens=2, num_classes=3).to("meta").train()
    with OneDevice():
        model(example.images(dtype=torch.float32).to("meta")).sum().backward()


@pytest.mark.parametrize("name", [name for name in TEXT_EXAMPLES if "ViT" not in name])
def test_every_text_tower_does(name: str) -> None:
    example = TEXT_EXAMPLES[name]
    pair = wrap(example.model()).pair
    assert not isinstance(pair, str)
    side, ids = TextSide(pair).to("meta"), example.ids()
    for chunk in (None, 2):
        side.chunk = chunk
        with OneDevice():
            features = side.encode(Method(), ids)
        assert features.shape == (5, side.tower.num_features)
