"""CLIP-LoRA against merged weights in the library's own forward pass, and against peft."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.test_adapters import CLASSES, LABELS, TRAIN, clip, images
from tests.zoo import EXAMPLES, Example, vit
from vpt import VptError

# Towers in which every block has linear queries, keys and values.
NOT_LINEAR = ("q and k norm", "parallel things", "differential attention")
LINEAR = [name for name, example in EXAMPLES.items() if not example.whole and name not in NOT_LINEAR]


def filled(model: vpt.Prompted) -> vpt.Prompted:
    """With random matrices in place of the zeros that training starts from."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.method.named_parameters():
            if name.endswith("up"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def adapted(library: nn.Module | None = None, **options: object) -> vpt.Prompted:
    torch.manual_seed(3)
    return vpt.attach(library or clip(), "clip-lora", classes=CLASSES, **options).double()


def merged(model: vpt.Prompted, rank: int, alpha: float, projections: str) -> nn.Module:
    """open_clip's own model, with W + alpha / √rank · B A in place of each W."""
    library, parts = clip(), dict(model.method.named_children())
    for added, blocks in (
        (parts.get("image"), library.visual.transformer.resblocks),
        (parts.get("text"), library.transformer.resblocks),
    ):
        for layer, block in enumerate(blocks if added is not None else ()):
            parts = block.attn.in_proj_weight.data.chunk(3)
            for row, name in enumerate(projections):
                update = added.up[layer, row] @ added.down[layer, row]
                parts["qkv".index(name)].add_(alpha / math.sqrt(rank) * update.detach())
    return library


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 3, "alpha": 4.0},
        {"projections": "qv"},
        {"projections": "vk"},
        {"encoder": "image"},
        {"encoder": "text"},
    ],
    ids=str,
)
def test_features_are_those_of_merged_weights(options: dict[str, object]) -> None:
    model = filled(adapted(**options))
    rank, alpha = options.get("rank", 2), options.get("alpha", 1.0)
    library = merged(model, rank, alpha, options.get("projections", "qkv"))
    ids = model.tokenize([f"a photo of a {name}." for name in CLASSES])
    image, text = library.encode_image(images()), library.encode_text(ids)
    torch.testing.assert_close(model.features(images()), image, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.encode_text(ids), text, rtol=0, atol=1e-10)
    logits = library.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    torch.testing.assert_close(model(images()), logits, rtol=0, atol=1e-10)
    plain = clip()
    assert ((image - plain.encode_image(images())).abs().max() > 1e-3) == (options.get("encoder") != "text")
    assert ((text - plain.encode_text(ids)).abs().max() > 1e-3) == (options.get("encoder") != "image")


def test_an_image_encoder_is_pefts() -> None:
    peft = pytest.importorskip("peft")
    example = EXAMPLES["hf clip"]
    model = vpt.attach(example.make().double(), "clip-lora", num_classes=3, head="linear", dropout=0.0).double()
    added = filled(model).method.image
    targets = ["q_proj", "k_proj", "v_proj"]
    config = peft.LoraConfig(r=2, lora_alpha=1, use_rslora=True, target_modules=targets)
    theirs = peft.inject_adapter_in_model(config, example.make()).double()
    for name, module in theirs.named_modules():
        if hasattr(module, "lora_A"):
            layer = next(int(part) for part in name.split(".") if part.isdigit())
            row = targets.index(name.rsplit(".", 1)[-1])
            module.lora_A["default"].weight.data.copy_(added.down[layer, row].detach())
            module.lora_B["default"].weight.data.copy_(added.up[layer, row].detach())
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == model.num_tuned(head=False)
    theirs.eval()
    torch.testing.assert_close(
        model.features(example.images()), example.features(theirs, example.images()), rtol=0, atol=1e-10
    )


def test_training_starts_from_the_frozen_model() -> None:
    model, library = adapted(), clip()
    ids = model.tokenize([f"a photo of a {name}." for name in CLASSES])
    torch.testing.assert_close(model.features(images()), library.encode_image(images()), rtol=0, atol=1e-10)
    torch.testing.assert_close(model.encode_text(ids), library.encode_text(ids), rtol=0, atol=1e-10)
    for added, width in ((model.method.image, 16), (model.method.text, 16)):
        assert 0.8 / math.sqrt(width) < added.down.abs().max() <= 1 / math.sqrt(width)


def values_and_gradients(model: vpt.Prompted, of: Tensor, plain: bool) -> list[Tensor]:
    logits = model.outputs(of, plain=plain).logits if model.head is None else model.features(of, plain=plain)
    learned = list(model.method.parameters())
    return [logits, *torch.autograd.grad(logits.sin().sum(), learned)]


def assert_equal(fast: list[Tensor], plain: list[Tensor]) -> None:
    for got, expected in zip(fast, plain, strict=True):
        scale = expected.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_the_fast_form_equals_the_definition_in_every_image_tower(name: str) -> None:
    example: Example = EXAMPLES[name]
    model = vpt.attach(example.make().double(), "clip-lora", num_classes=3, head="linear", dropout=0.0).double()
    filled(model).train()
    fast, plain = (values_and_gradients(model, example.images(), plain) for plain in (False, True))
    assert_equal(fast, plain)
    assert all(gradient.abs().sum() > 0 for gradient in fast[1:])


@pytest.mark.parametrize("text", [{}, {"no_causal_mask": True}], ids=["causal", "bidirectional"])
def test_the_fast_form_equals_the_definition_in_both_encoders(text: dict[str, bool]) -> None:
    model = filled(adapted(clip(**text), dropout=0.0)).train()
    fast, plain = (values_and_gradients(model, images(), plain) for plain in (False, True))
    assert_equal(fast, plain)
    assert all(gradient.abs().sum() > 0 for gradient in fast[1:])


def test_some_steps_of_both_forms_end_at_the_same_place() -> None:
    ends = []
    for plain in (False, True):
        model = filled(adapted(dropout=0.0)).train()
        optimizer = torch.optim.SGD(model.method.parameters(), lr=0.01, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model.outputs(TRAIN, plain=plain).logits, LABELS).backward()
            optimizer.step()
        ends.append([p.detach() for p in model.method.parameters()])
    assert_equal(*ends)


def test_texts_in_chunks_that_are_computed_again_draw_the_same_dropout() -> None:
    found = []
    for chunk in (None, 3):
        model = filled(adapted()).train()
        model.text.chunk = chunk
        torch.manual_seed(6)
        found.append(values_and_gradients(model, images(), plain=False))
    assert_equal(*found)


@dataclass(frozen=True)
class Projections:
    """An opened block that projects tokens to themselves, on two heads."""

    query_key_value: object = staticmethod(lambda y: (y.unflatten(-1, (2, -1)),) * 3)
    key_value: object = staticmethod(lambda y: (y.unflatten(-1, (2, -1)),) * 2)


def test_dropout_is_of_the_tokens_and_anew_for_each_projection() -> None:
    model = filled(adapted(dropout=0.5)).train()
    y = torch.randn(3, 5, 16, dtype=torch.float64)
    changed = model.method.image_change(1, Projections())
    torch.manual_seed(8)
    got = [part.flatten(2) for part in changed.query_key_value(y)]
    torch.manual_seed(8)
    added = model.method.image
    for row, part in enumerate(got):
        dropped = F.dropout(y, 0.5)
        expected = y + (dropped @ added.down[1, row].T @ added.up[1, row].T) / math.sqrt(2)
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-12)
    assert not torch.equal(model.features(images()), model.features(images()))
    model.eval()
    assert torch.equal(model.features(images()), model.features(images()))


def test_training_moves_what_is_learned_alone_and_other_views_of_the_model_stay() -> None:
    library = clip()
    before = library.encode_image(images())
    model = vpt.attach(library, "clip-lora", classes=CLASSES).double().train()
    frozen = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    optimizer = torch.optim.AdamW(model.method.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(TRAIN), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert set(model.tuned_state()) == {
        f"method.{side}.{name}" for side in ("image", "text") for name in ("down", "up")
    }
    assert all(parameter.abs().sum() > 0 for parameter in model.method.parameters())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.frozen_state().items())
    torch.testing.assert_close(library.encode_image(images()), before, rtol=0, atol=1e-12)


def test_a_saved_model_is_the_same_model_on_the_same_backbone(tmp_path: Path) -> None:
    model = filled(adapted(rank=3, alpha=2.0))
    model.save_pretrained(tmp_path / "saved")
    again = vpt.load(tmp_path / "saved", backbone=clip())
    torch.testing.assert_close(again.double()(images()), model(images()), rtol=0, atol=1e-5)
    other = clip()
    other.visual.proj.data.add_(1)
    with pytest.raises(VptError, match="load the same weights"):
        vpt.load(tmp_path / "saved", backbone=other)


def test_a_copy_learns_by_itself() -> None:
    model = filled(adapted())
    copied = copy.deepcopy(model)
    before = model(images())
    assert torch.equal(copied(images()), before)
    for parameter in copied.method.parameters():
        parameter.data.zero_()
    assert torch.equal(model(images()), before)
    assert not torch.equal(copied(images()), before)


def test_other_classes_are_taken() -> None:
    model = filled(adapted())
    model.set_classes(["cat", "dog"])
    assert model(images()).shape == (4, 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rank": 0}, "rank=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"projections": "qo"}, "projections='qo'"),
        ({"projections": ""}, "projections=''"),
        ({"projections": "qq"}, "projections='qq'"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(VptError, match=told):
        adapted(**options)


def test_a_text_encoder_that_is_not_there_is_missed() -> None:
    with pytest.raises(VptError, match="encoder='text' needs a text encoder"):
        vpt.attach(vit(), "clip-lora", num_classes=2, head="linear", encoder="text")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("q and k norm", "queries and keys are normed"),
        ("open_clip, custom blocks", "is not"),
        ("hooked attention", "hooks"),
    ],
)
def test_blocks_that_cannot_be_added_to_are_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(VptError, match=rf"block \d of the image encoder: .*{why}"):
        vpt.attach(EXAMPLES[name].make(), "clip-lora", num_classes=2, head="linear")
