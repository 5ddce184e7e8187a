"""Backbones in half precision: their own weights decide, whatever images, prompts and heads come in."""

import pytest
import torch

import vpt
from tests.parity.test_text_methods import VARIANTS as TEXT_VARIANTS
from tests.text_models import CLASSES, image_text_model
from tests.zoo import EXAMPLES
from vpt.towers.load import wrap

HALVES = [torch.bfloat16, torch.float16]
VISUAL = {
    "full": ("full", {}),
    "bias": ("bias", {}),
    "vpt-shallow": ("vpt-shallow", {"num_tokens": 2}),
    "vpt-deep": ("vpt-deep", {"num_tokens": 2}),
    "first block": ("vpt-deep", {"num_tokens": 2, "first": 1}),
}


def close(half: torch.Tensor, full: torch.Tensor) -> None:
    """To the rounding of a few blocks."""
    torch.testing.assert_close(half.float(), full.float(), rtol=0, atol=0.1 * full.abs().max().item())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_image_tower_says_what_its_library_says(name: str) -> None:
    example = EXAMPLES[name]
    model, images = example.make().bfloat16(), example.images(dtype=torch.bfloat16)
    tower = wrap(model).tower
    assert tower.dtype == torch.bfloat16
    with torch.no_grad():
        x = tower.embed(images)
        for layer in range(tower.depth):
            x = tower.advance(layer, x)
        assert torch.equal(tower.readout(x), example.features(model, images))


@pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "fp16"])
@pytest.mark.parametrize("head", ["linear", "text"])
@pytest.mark.parametrize("variant", VISUAL)
def test_prompts_and_head_stay_in_float32(variant: str, head: str, dtype: torch.dtype) -> None:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    logits = []
    method, options = VISUAL[variant]
    for precision in (dtype, torch.float32):
        torch.manual_seed(2)
        backbone = image_text_model().to(precision)
        model = vpt.attach(backbone, method, classes=CLASSES, head=head, **options).train()
        logits.append(model(images))
        close(model.features(images), model.features(images, plain=True))
    close(*logits)
    logits[0].float().square().sum().backward()
    learned = model.parameter_groups()
    assert all(p.dtype == torch.float32 for name in ("prompts", "head") for p in learned.get(name, []))


@pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "fp16"])
@pytest.mark.parametrize("variant", TEXT_VARIANTS)
def test_learned_words_stay_in_float32(variant: str, dtype: torch.dtype) -> None:
    method, options = TEXT_VARIANTS[variant]
    torch.manual_seed(2)
    model = vpt.attach(image_text_model().to(dtype), method, classes=CLASSES, **options).train()
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    outputs = model.outputs(images)
    close(outputs.logits, model.outputs(images, plain=True).logits)
    model.method.loss(outputs, torch.tensor([0, 2, 1]), 0.0).backward()
    for parameter in model.parameter_groups()["prompts"]:
        assert parameter.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_open_clips_mixed_precision_keeps_its_norms(precision: str) -> None:
    from open_clip.model import convert_weights_to_lp

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    library = image_text_model()
    convert_weights_to_lp(library, dtype)
    assert library.visual.ln_post.weight.dtype == torch.float32
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    model = vpt.attach(library, "vpt-deep", num_tokens=2, num_classes=3)
    assert model.tower.dtype == dtype
    assert model(images).dtype == torch.float32
