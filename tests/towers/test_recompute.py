"""Activations computed again in the backward pass, and a frozen backbone held in half precision."""

import pytest
import torch
from torch import Tensor

import vpt
from benchmarks.measure import saved_bytes
from tests.zoo import EXAMPLES, images_for, vit


def gradients(model: vpt.Prompted, images: Tensor) -> list[Tensor]:
    tuned = [p for group in model.parameter_groups().values() for p in group]
    torch.manual_seed(0)
    return list(torch.autograd.grad(model(images).logsumexp(-1).sum(), tuned))


@pytest.mark.parametrize("what", ["mlp", "block"])
@pytest.mark.parametrize("name", ["class token", "open_clip", "hf clip", "parallel blocks"])
@pytest.mark.parametrize("method", ["vpt-deep", "vpt-shallow"])
def test_recomputing_changes_no_gradient(what: str, name: str, method: str) -> None:
    model = vpt.attach(EXAMPLES[name].make(), method, num_tokens=4, dropout=0.3, num_classes=3).double().train()
    images = EXAMPLES[name].images()
    kept = gradients(model, images)
    model.tower.recompute = what
    for again, once in zip(gradients(model, images), kept, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("what", "method", "draws"), [("mlp", "vpt-deep", False), ("block", "vpt-deep", False), ("block", "lora", True)]
)
def test_the_state_of_random_numbers_is_kept_where_any_may_be_drawn(
    what: str, method: str, draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that asks a GPU for it cannot be captured."""
    model, asked = vpt.attach(vit(), method, num_classes=3).train(), []
    model.tower.recompute = what
    state = torch.get_rng_state
    monkeypatch.setattr(torch, "get_rng_state", lambda: asked.append(1) or state())
    model(images_for(model.tower.model)).sum().backward()
    assert bool(asked) == draws


def test_recomputing_keeps_less_the_more_is_recomputed() -> None:
    model = vpt.attach(vit(), num_classes=3).train()
    images, saved = images_for(model.tower.model), {}
    for what in ("block", "mlp", None):
        model.tower.recompute = what
        saved[what] = saved_bytes(lambda: model(images).sum(), model.parameters())
    assert saved["block"] < 0.25 * saved[None]
    assert saved["mlp"] < 0.75 * saved[None]


@pytest.mark.parametrize("name", ["class token", "open_clip", "hf clip", "torchvision", "parallel blocks"])
def test_a_backbone_held_in_half_keeps_prompts_and_gradients_in_single_precision(name: str) -> None:
    whole = vpt.attach(EXAMPLES[name].make().bfloat16().float(), "vpt-deep", num_tokens=4, num_classes=3)
    held = vpt.attach(EXAMPLES[name].make().bfloat16(), "vpt-deep", num_tokens=4, num_classes=3)
    held.load_tuned_state(whole.tuned_state())
    images = EXAMPLES[name].images(dtype=torch.float32)
    assert held(images).dtype == torch.float32
    for rounded, exact in zip(gradients(held, images), gradients(whole, images), strict=True):
        assert rounded.dtype == torch.float32
        assert torch.cosine_similarity(rounded.flatten(), exact.flatten(), 0) > 0.99
    saved = [saved_bytes(lambda m=m: m(images).sum(), [*m.parameters(), *m.buffers()]) for m in (held, whole)]
    assert saved[0] < 0.6 * saved[1]


@pytest.mark.parametrize("what", ["mlp", "block"])
def test_recomputing_changes_no_gradient_of_what_the_method_adds_to_blocks(what: str) -> None:
    model = vpt.attach(vit(), "clip-lora", head="linear", num_classes=3).double().train()
    torch.nn.init.normal_(model.method.image.up)
    images = images_for(model.tower.model)
    kept = gradients(model, images.double())
    model.tower.recompute = what
    for again, once in zip(gradients(model, images.double()), kept, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-10, atol=1e-10)
