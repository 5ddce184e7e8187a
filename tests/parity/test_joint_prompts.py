"""Prompts in image and text encoders: the fast form is the definition, in values, gradients and training."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

import vpt
from tests.zoo import shaken

TOLERANCE = 1e-10
CLASSES = ["ant", "honey bee", "dragonfly on a leaf"]
LABELS = torch.tensor([0, 2, 1, 1])

METHODS = {
    "vpt-shallow": {"num_tokens": 3, "head": "text"},
    "vpt-deep": {"num_tokens": 3, "head": "text"},
    "ivlp": {"num_tokens": 3, "depth": 2},
    "maple": {"depth": 2},
    "coprompt": {"depth": 2, "reduction": 2},
    "promptsrc": {"num_tokens": 3, "depth": 2},
}
VARIANTS = {
    **{name: (name, options) for name, options in METHODS.items()},
    "vpt-deep in the first block": ("vpt-deep", {"num_tokens": 3, "first": 1, "head": "text"}),
    "ivlp in one block": ("ivlp", {"depth": 1}),
    "ivlp in all blocks": ("ivlp", {}),
    "ivlp, deeper in images": ("ivlp", {"image_depth": 3, "text_depth": 1}),
    "ivlp, deeper in texts": ("ivlp", {"image_depth": 1, "text_depth": 3}),
    "ivlp, language only": ("ivlp", {"image_depth": 0, "text_depth": 2}),
    "ivlp, random context": ("ivlp", {"num_context": 5, "init": None}),
    "maple in one block": ("maple", {"depth": 1}),
    "maple in all blocks": ("maple", {"num_context": 4}),
    "maple, random context": ("maple", {"num_context": 1, "init": None}),
}

VISION = {"layers": 3, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3}


def clip(kind: type[nn.Module] = CLIP, vision: dict[str, object] | None = None, **text: object) -> nn.Module:
    vision_cfg = CLIPVisionCfg(**{**VISION, **(vision or {})})
    return shaken(partial(kind, embed_dim=12, vision_cfg=vision_cfg, text_cfg=CLIPTextCfg(**{**TEXT, **text})))


TOWERS = {
    "causal": clip,
    "causal, text deeper": partial(clip, layers=4),
    "image pooled by average": partial(clip, vision={"pool_type": "avg"}),
    "no norm before the blocks": partial(clip, vision={"no_ln_pre": True}),
    "custom text": partial(clip, CustomTextCLIP),
    "bidirectional": partial(clip, CustomTextCLIP, no_causal_mask=True),
}


def images(seed: int = 1) -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prompted(variant: str, towers: str = "causal") -> vpt.Prompted:
    method, options = VARIANTS[variant]
    backbone = TOWERS[towers]()
    torch.manual_seed(2)
    model = vpt.attach(backbone, method, classes=CLASSES, **options).double()
    with torch.no_grad():
        # Away from values at which the method says what the frozen model says.
        for parameter in model.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.train()


def loss(model: vpt.Prompted, plain: bool, seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    outputs = model.outputs(images(seed), plain=plain)
    return outputs.logits, model.method.loss(outputs, LABELS, 0.0)


@pytest.mark.parametrize("towers", TOWERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fast_form_equals_the_definition(variant: str, towers: str) -> None:
    model = prompted(variant, towers)
    tuned = model.parameter_groups()["prompts"]
    found, expected = (
        [logits, value, *torch.autograd.grad(value, tuned)]
        for logits, value in (loss(model, plain) for plain in (False, True))
    )
    for got, wanted in zip(found, expected, strict=True):
        scale = wanted.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, wanted / scale, rtol=0, atol=TOLERANCE)


def trained(variant: str, plain: bool) -> vpt.Prompted:
    model = prompted(variant)
    optimizer = torch.optim.SGD(
        [p for group in model.parameter_groups().values() for p in group], lr=0.01, momentum=0.9
    )
    for step in range(4):
        optimizer.zero_grad()
        loss(model, plain, seed=step)[1].backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("variant", METHODS)
def test_training_is_that_of_the_definition_and_leaves_the_encoders_alone(variant: str) -> None:
    before, fast, plain = prompted(variant), trained(variant, plain=False), trained(variant, plain=True)
    for name, tensor in fast.tuned_state().items():
        torch.testing.assert_close(tensor, plain.tuned_state()[name], rtol=0, atol=TOLERANCE)
    assert any(not torch.equal(tensor, fast.tuned_state()[name]) for name, tensor in before.tuned_state().items())
    assert all(torch.equal(tensor, fast.frozen_state()[name]) for name, tensor in before.frozen_state().items())


@pytest.mark.parametrize("towers", ["causal", "bidirectional"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gradient_reaches_every_prompt(variant: str, towers: str) -> None:
    model = prompted(variant, towers)
    loss(model, plain=False)[1].backward()
    learned = model.parameter_groups()["prompts"]
    # A ReLU shuts some units of networks for every image.
    prompts = [p for p in learned if id(p) not in {id(own) for own in model.method.classifier.parameters()}]
    for parameter in prompts:
        assert (parameter.grad.flatten(0, -2) if parameter.ndim > 1 else parameter.grad[None]).abs().sum(-1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_and_loaded(variant: str, tmp_path: Path) -> None:
    model = prompted(variant).float().eval()
    model.save_pretrained(tmp_path / "saved")
    again = vpt.load(tmp_path / "saved", backbone=clip())
    assert torch.equal(again(images().float()), model(images().float()))


@pytest.mark.parametrize("variant", METHODS)
def test_other_classes_are_told_apart_by_the_same_prompts(variant: str) -> None:
    model = prompted(variant).eval()
    logits = model(images())
    model.set_classes(["wasp", *CLASSES])
    torch.testing.assert_close(model(images())[:, 1:], logits, rtol=0, atol=TOLERANCE)


def definition(model: vpt.Prompted, backbone: CLIP) -> Tensor:
    """Logits by open_clip's own blocks, each given the whole sequence, as the papers' code has it."""
    method, visual = model.method, backbone.visual
    x = visual._embeds(images())
    count = method.image_prompts.count()
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer in method.image_prompts.enters:
            new = method.prompts.prompts(layer, 1).expand(len(x), -1, -1)
            x = torch.cat([x, visual.ln_pre(new)], 1) if layer == 0 else torch.cat([x[:, :-count], new], 1)
        x = block(x)
    image = visual.ln_post(x[:, 0]) @ visual.proj

    length, context = model.text.tower.context_length, method.num_context
    ids = model.text.tower.tokenizer([f"{'x ' * context}{method.template.format(c)}" for c in CLASSES], length)
    x = backbone.token_embedding(ids)
    x = torch.cat([x[:, :1], method.text_prompts.context(None).expand(len(x), -1, -1), x[:, 1 + context :]], 1)
    x = x + backbone.positional_embedding
    for layer, block in enumerate(backbone.transformer.resblocks):
        if layer in method.text_prompts.enters:
            new = method.text_prompts.prompts(layer).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], new, x[:, 1 + context :]], 1)
        x = block(x, attn_mask=backbone.attn_mask)
    text = backbone.ln_final(x[range(len(ids)), ids.argmax(-1)]) @ backbone.text_projection
    return backbone.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "vpt" not in name and name != "coprompt"])
def test_logits_are_those_of_the_librarys_own_blocks(variant: str) -> None:
    model = prompted(variant)
    expected = definition(model, clip().double())
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=TOLERANCE)
