"""Keys and values of prompts computed once for inference."""

import pytest
import torch

import vpt
from tests.few import several
from tests.zoo import EXAMPLES, images_for, vit

VARIANTS = {
    "deep": ("vpt-deep", {"num_tokens": 5}),
    "first two blocks": ("vpt-deep", {"num_tokens": 2, "first": 2}),
    "last block": ("vpt-deep", {"num_tokens": 2, "last": 1}),
    "projected, dropped out": ("vpt-deep", {"num_tokens": 2, "project": 6, "dropout": 0.4}),
    "shallow": ("vpt-shallow", {"num_tokens": 5}),
    "none": ("linear", {}),
}


@pytest.mark.parametrize(
    ("name", "variant"),
    several(
        [(name, variant) for name in EXAMPLES for variant in VARIANTS],
        {(name, variant) for name in EXAMPLES for variant in VARIANTS if variant == "deep" or name == "class token"},
    ),
)
def test_compiled_prompts_give_the_same_features(name: str, variant: str) -> None:
    example = EXAMPLES[name]
    method, options = VARIANTS[variant]
    model = vpt.attach(example.make(), method, num_classes=3, **options).double().eval()
    images = example.images()
    expected = model(images)
    torch.testing.assert_close(model.compile_prompts()(images), expected, rtol=1e-12, atol=1e-12)


def test_compiled_prompts_do_not_outlive_the_values_they_are_of() -> None:
    model, other = (vpt.attach(vit(), num_tokens=3, num_classes=3) for _ in range(2))
    images = images_for(model.tower.model)
    model.compile_prompts().load_tuned_state(other.tuned_state())
    assert torch.equal(model(images), other(images))
    model.compile_prompts().train()
    with torch.no_grad():
        model.method.prompts.values.mul_(2)
    changed = model(images)
    assert not torch.equal(changed, other(images))
    assert torch.equal(model.eval()(images), changed)
    assert model.compile_prompts().double()(images.double()).dtype == torch.float64


def test_compiled_prompts_are_not_projected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vpt.attach(vit(), num_tokens=3, num_classes=3).compile_prompts()
    monkeypatch.setattr(model.method.image_prompts, "prompts", None)
    model(images_for(model.tower.model))
