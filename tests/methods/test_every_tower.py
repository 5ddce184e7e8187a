"""Every method on images, on every kind of tower: as its definition, merged too, or refused in a sentence."""

import pytest
import torch

import vpt
from tests.methods.plain import filled
from tests.zoo import EXAMPLES, REFUSALS
from vpt.errors import VptError

METHODS = {
    **{name: {} for name in ("adaptformer", "adapter", "adapter+", "ssf", "repadapter", "convpass", "prefix", "e2vpt")},
    **{name: {} for name in ("vfpt", "vapt", "lst", "lora")},
    "gate-vpt": {"num_tokens": 3},
    "spt": {"num_tokens": 3, "init": "max"},
    "fact": {"form": "tk", "rank": 2},
}
# Of the simplest tower nothing is refused.
NONE = ("class token",)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tower", EXAMPLES)
def test_it_is_its_definition_or_refused(tower: str, method: str) -> None:
    example = EXAMPLES[tower]
    torch.manual_seed(3)
    images = example.images()
    refused = ""
    try:
        model = vpt.attach(example.make(), method, num_classes=3, **METHODS[method]).double()
        if model.needs_images:
            model.initialise(images)
        plain = filled(model).eval().features(images, plain=True)
    except VptError as error:
        refused = str(error)
    if refused:
        assert any(refusal in refused for refusal in REFUSALS), refused
        assert tower not in NONE
        return
    for found in (model.features(images), model.compile_prompts().features(images)):
        scale = plain.abs().max().clamp(min=1.0)
        torch.testing.assert_close(found / scale, plain / scale, rtol=0, atol=1e-10)
