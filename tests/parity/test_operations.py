"""The fast form of a training step says no more to the device than the plain one, for every method and tower family."""

import re
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vpt
from benchmarks.text import class_names
from tests import tower_zoo
from tests.few import few, several
from tests.operations import fused_attention, operations
from tests.zoo import HF, REFUSALS, SMALL, shaken
from vpt.errors import VptError
from vpt.methods import available
from vpt.towers import packing
from vpt.towers.base import Tower
from vpt.towers.rows import rows_for

DEPTH = 4
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"

# Classes.
COUNTS = (20, 100, 1000)


def timm_vit(**options: Any) -> nn.Module:
    import timm

    return shaken(partial(timm.create_model, "vit_tiny_patch16_224", **{**SMALL, "depth": DEPTH, **options}))


def hf(kind: str) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**HF, "num_hidden_layers": DEPTH})
    return shaken(lambda: getattr(transformers, f"{kind}Model")(config))


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    sizes = {"image_size": 32, "patch_size": 8, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 48}
    return shaken(partial(VisionTransformer, num_layers=DEPTH, **sizes))


def clip(**text: Any) -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    vision = {"layers": DEPTH, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16, "mlp_ratio": 2.0}
    words = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": DEPTH}
    kind = CustomTextCLIP if text else CLIP
    return shaken(partial(kind, 12, CLIPVisionCfg(**vision), CLIPTextCfg(**words, **text)))


def hf_clip() -> nn.Module:
    import transformers

    sizes = {"hidden_size": 24, "num_hidden_layers": DEPTH, "num_attention_heads": 3, "intermediate_size": 48}
    text = {**sizes, "hidden_size": 126, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406}
    config = transformers.CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8})
    return shaken(lambda: transformers.CLIPModel(config))


IMAGE_TOWERS = {
    "timm": timm_vit,
    "timm, q and k norm": partial(timm_vit, qk_norm=True),
    "torchvision": torchvision_vit,
    "hf vit": partial(hf, "ViT"),
    "hf dinov2": partial(hf, "Dinov2"),
    "open_clip": clip,
}
PAIRS = {"open_clip": clip, "both ways": partial(clip, no_causal_mask=True), "hf clip": hf_clip}
VARIANTS = {"first blocks": {"first": 3}, "dropped out": {"dropout": 0.1}, "projected": {"project": 6}}


def step(model: vpt.Prompted, *, plain: bool, batch: int = 4) -> int:
    """Operations of forward and backward pass, once what depends on names alone is there."""
    size = model.tower.image_size or (32, 32)
    device = next(model.tower.parameters()).device
    images = torch.randn(batch, 3, *size, device=device)
    labels = torch.arange(batch, device=device) % len(model.classes)

    def passes() -> None:
        if model.head is not None:
            loss = F.cross_entropy(model.head(model.features(images, plain=plain)), labels)
        else:
            loss = model.method.loss(model.outputs(images, plain=plain), labels, 0.0)
        if loss.requires_grad:
            loss.backward()

    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = None
        found = operations(passes)
    return found.total()


FAMILIES = {**IMAGE_TOWERS, **{name: example.make for name, example in tower_zoo.FAMILIES.items()}}
ON_FEATURES = [name for name, kind in available().items() if "linear" in kind.heads]
EVERY_FAMILY = [(family, method) for family in FAMILIES for method in ON_FEATURES]
EVERY_TEXT = [(pair, m, n) for pair in PAIRS for m in available() if m not in ("linear", "partial-k") for n in COUNTS]
# By default every method on one tower, and on all towers those that say the most.
SOME_FAMILIES = {
    *(("timm", method) for method in ON_FEATURES),
    *product(IMAGE_TOWERS, ("clip-lora", "full")),
    *product([*IMAGE_TOWERS, *tower_zoo.FAST], ("vpt-deep", "prefix", "bias")),
}
SOME_TEXTS = {
    (pair, m, n)
    for pair, m, n in EVERY_TEXT
    if n == COUNTS[0] and (pair == "open_clip" or m in ("coop", "cocoop", "maple", "clip-lora", "vpt-deep"))
}


@pytest.mark.parametrize(("family", "method"), several(EVERY_FAMILY, SOME_FAMILIES))
def test_every_method_on_images(family: str, method: str) -> None:
    options = {"size": 4} if method == "pixel" else {}
    try:
        model = vpt.attach(FAMILIES[family](), method, num_classes=5, head="linear", **options).train()
        if model.needs_images:
            model.initialise(torch.randn(8, 3, *(model.tower.image_size or (32, 32))))
        fast, plain = (step(model, plain=form) for form in (False, True))
    except VptError as refused:
        # Of the simplest tower nothing is refused, nor anything without one of these reasons.
        if family == "timm" or not any(reason in str(refused) for reason in REFUSALS):
            raise
        return
    assert fast <= plain


# Prompts with what is learned in the blocks, for which block 0 is gone back through though its tokens are frozen.
TOGETHER = [
    *product(["vpt-deep"], ["clip-lora", "lora", "fact", "repadapter", "adaptformer", "bias"]),
    ("prefix", "lora"),
]


@pytest.mark.parametrize("methods", TOGETHER, ids="+".join)
@pytest.mark.parametrize("tower", few(IMAGE_TOWERS, ["timm"]))
def test_several_methods_at_once(tower: str, methods: tuple[str, ...]) -> None:
    try:
        model = vpt.attach(IMAGE_TOWERS[tower](), list(methods), num_classes=5, head="linear").train()
    except VptError as refused:
        if tower == "timm" or not any(reason in str(refused) for reason in REFUSALS):
            raise
        return
    assert step(model, plain=False) <= step(model, plain=True)


@pytest.mark.parametrize(
    "methods", [("ivlp", "clip-lora"), ("promptsrc", "clip-lora"), ("kgcoop", "vpt-deep")], ids="+".join
)
def test_several_methods_at_once_with_class_names(methods: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_classes(clip, list(methods), COUNTS[0])
    act_out(model, monkeypatch)
    assert step(model, plain=False) <= step(model, plain=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tower", few(IMAGE_TOWERS, ["timm"]))
def test_variants_of_deep_prompts(tower: str, variant: str) -> None:
    model = vpt.attach(IMAGE_TOWERS[tower](), "vpt-deep", num_classes=5, head="linear", **VARIANTS[variant]).train()
    assert step(model, plain=False) <= step(model, plain=True)


@pytest.mark.parametrize("method", ["vpt-shallow", "bias", "full"])
@pytest.mark.parametrize("tower", few(FAMILIES, {*IMAGE_TOWERS, *tower_zoo.FAST}))
def test_blocks_that_nothing_enters_are_opened_where_that_says_less(
    tower: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vpt.attach(FAMILIES[tower](), method, num_classes=5, head="linear").train()
    opened = step(model, plain=False)
    monkeypatch.setattr(Tower, "leaner_opened", lambda *_, **__: False)
    whole = step(model, plain=False)
    # torch's own module of attention copies a great deal, timm's a gradient.
    share = 0.8 if tower in ("open_clip", "torchvision") else 0.99 if tower == "timm" else 1
    assert opened <= share * whole


def of_classes(make: Any, method: str | list[str], count: int, **options: Any) -> vpt.Prompted:
    import open_clip

    tokenizer = {} if hasattr(backbone := make(), "visual") else {"tokenizer": open_clip.tokenize}
    # A frame of 30 pixels leaves nothing of small images.
    options |= {"size": 4} if method == "pixel" else {}
    model = vpt.attach(backbone, method, classes=class_names(count), head="text", **options, **tokenizer)
    if model.method.classifier.needs_teacher:
        model.teach(vpt.attach(make(), "zero-shot", classes=model.classes, **tokenizer))
    if model.method.classifier.needs_features:
        features = F.normalize(torch.randn(2 * count, model.tower.num_features), dim=-1)
        labels = torch.arange(2 * count) % count
        model.method.classifier.prepare(features, labels, model.class_features().detach(), torch.tensor(10.0))
    return model.train()


def act_out(model: vpt.Prompted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave shapes alone of a model, of which operations are counted in a part of the time."""
    model.teacher_on(torch.device("meta"))
    model.to("meta")
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused_attention)


@pytest.mark.parametrize("method", ["coop", "vpt-deep"])
@pytest.mark.parametrize("pair", PAIRS)
def test_as_many_are_counted_where_they_are_acted_out(pair: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_classes(PAIRS[pair], method, COUNTS[0])
    monkeypatch.setattr(packing, "rows_for", lambda *given, **options: rows_for(*given, **options | {"on_gpu": True}))
    done = [step(model, plain=form) for form in (False, True)]
    act_out(model, monkeypatch)
    # torch's own module of attention copies a little more there, and is taken apart also without gradients.
    acted = [step(model, plain=form) for form in (False, True)]
    assert all(0.96 * one <= other <= 1.12 * one for one, other in zip(done, acted, strict=True))
    if (pair, method) == ("open_clip", "coop"):
        assert f"{acted[0]} operations in place of {acted[1]} for CoOp" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("tower", IMAGE_TOWERS)
def test_without_gradients_only_torchs_own_attention_is_taken_apart_and_not_on_a_cpu(
    tower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vpt.attach(IMAGE_TOWERS[tower](), "linear", num_classes=5, head="linear")
    taken: list[int] = []
    opened = type(model.tower).open
    monkeypatch.setattr(type(model.tower), "open", lambda self, layer: taken.append(layer) or opened(self, layer))

    def opens() -> set[int]:
        taken.clear()
        with torch.no_grad():
            model.features(torch.empty(2, 3, *(model.tower.image_size or (32, 32)), device=model.tower.kernel.device))
        return set(taken)

    assert opens() == {DEPTH - 1}
    act_out(model, monkeypatch)
    assert opens() == ({*range(DEPTH)} if tower in ("open_clip", "torchvision") else {DEPTH - 1})


@pytest.mark.parametrize(("pair", "method", "count"), several(EVERY_TEXT, SOME_TEXTS))
def test_with_class_names(pair: str, method: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a GPU takes texts, which waits for each operation: a CPU lays them out for attention alone, in a few more.
    model = of_classes(PAIRS[pair], method, count)
    act_out(model, monkeypatch)
    fast, plain = (step(model, plain=form) for form in (False, True))
    assert fast <= plain


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "backbone", "options"),
    [
        ("PromptSRC", "open_clip/ViT-B-16", {"method": "promptsrc"}),
        ("MaPLe", "open_clip/ViT-B-16", {"method": "maple"}),
        ("IVLP", "open_clip/ViT-B-16", {"method": "ivlp"}),
        ("vpt-deep 50, ViT-B/16", "timm/vit_base_patch16_224", {"method": "vpt-deep", "num_tokens": 50}),
    ],
)
def test_counts_on_the_page_of_speed(
    named: str, backbone: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = {"num_classes": 100} if "num_tokens" in options else {"classes": class_names(100)}
    model = vpt.create(backbone, pretrained=False, dtype="bf16", **of, **options).train()
    act_out(model, monkeypatch)
    fast, plain = (step(model, plain=form, batch=32) for form in (False, True))
    page = PAGE.read_text(encoding="utf-8")
    row = re.search(rf"^\| {re.escape(named)} \| [\d,]+ \| ([\d,]+) \| ([\d,]+) \|$", page, re.M)
    assert row is not None
    assert row.groups() == (f"{fast:,}", f"{plain:,}")
