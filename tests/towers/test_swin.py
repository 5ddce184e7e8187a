"""Swin Transformers: prompts in the windows of each block, as the VPT paper has them, and no image sees another's."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import vpt
from tests.few import few
from tests.whole_zoo import torchvision_features
from tests.zoo import Example, pooled, shaken
from vpt import VptError
from vpt.testing import check_tower
from vpt.towers.load import load, wrap
from vpt.towers.swin import SwinTower

TOLERANCE = 1e-10
SIZES = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "window_size": 4}


def from_timm(name: str, size: int = 64, **options: object) -> Example:
    options = {**SIZES, "img_size": size, "num_classes": 5, **options}
    return Example(lambda: shaken(partial(timm.create_model, name, **options)), timm_features, (size, size))


def timm_features(model: Any, images: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def from_torchvision(second: bool) -> Example:
    from torchvision.models import swin_transformer as swin

    def make() -> nn.Module:
        sizes = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "window_size": [4, 4], "patch_size": [4, 4]}
        second_version = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
        return swin.SwinTransformer(**sizes, num_classes=5, **(second_version if second else {}))

    # torchvision's models are made for 224 pixels, and this one is told otherwise.
    return Example(lambda: shaken(make), torchvision_features("head"), (56, 56))


def from_hf(kind: str, size: int = 64) -> Example:
    import transformers

    sizes = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "window_size": 4, "image_size": size}
    config = getattr(transformers, kind.partition("Model")[0] + "Config")
    return Example(lambda: shaken(lambda: getattr(transformers, kind)(config(**sizes))), pooled, (size, size))


EXAMPLES = {
    "timm v1": from_timm("swin_tiny_patch4_window7_224"),
    "timm v1, windows that do not divide": from_timm("swin_tiny_patch4_window7_224", 56, window_size=5),
    "timm v2": from_timm("swinv2_tiny_window8_256"),
    "torchvision v1": from_torchvision(False),
    "torchvision v2": from_torchvision(True),
    "hf v1": from_hf("SwinModel"),
    "hf v1, windows that do not divide": from_hf("SwinModel", 56),
    "hf v2": from_hf("Swinv2Model"),
}

VARIANTS = {
    "deep": ("vpt-deep", {"num_tokens": 3}),
    "shallow": ("vpt-shallow", {"num_tokens": 3}),
    "first block": ("vpt-deep", {"num_tokens": 2, "first": 1}),
    "last blocks": ("vpt-deep", {"num_tokens": 2, "last": 2, "shared": True}),
    "dropout": ("vpt-deep", {"num_tokens": 3, "dropout": 0.4}),
}


@pytest.fixture(params=EXAMPLES, ids=list(EXAMPLES))
def swin(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


def prompted(example: Example, method: str = "linear", **options: object) -> vpt.Prompted:
    torch.manual_seed(4)
    seen = {"size": example.size, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return vpt.attach(example.make(), method, num_classes=5, preprocessing=seen, **options)


@pytest.mark.parametrize("name", few(EXAMPLES, {"torchvision v2"}))
def test_it_obeys_the_laws_of_every_tower(name: str) -> None:
    swin = EXAMPLES[name]
    model, images = swin.make().float(), swin.images(2, torch.float32)
    seen = {"size": swin.size, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    errors = check_tower(
        wrap(model, preprocessing=seen).tower,
        images=images,
        features=lambda x: swin.features(model, x),
        methods={"vpt-shallow": ("vpt-shallow", {"num_tokens": 3})},
    )
    assert errors.pop("identity") < 1e-4
    assert max(errors.values()) < TOLERANCE


def test_without_prompts_it_is_the_library_s_own_forward_pass_bit_by_bit(swin: Example) -> None:
    model, images = prompted(swin), swin.images(dtype=torch.float32)
    assert isinstance(model.tower, SwinTower)
    with torch.no_grad():
        assert torch.equal(model.features(images), swin.features(swin.make(), images))


def test_a_block_taken_apart_is_the_library_s_own(swin: Example) -> None:
    tower = prompted(swin).double().tower
    none = torch.zeros(1, 0, 12, dtype=torch.float64)
    x = tower.embed(swin.images())
    for layer in range(tower.depth):
        prompts = none.new_zeros(1, 0, tower.width_at(layer))
        expected, _ = tower.advance_grid(layer, x, None, both=False)
        for both in (False, True):
            found, _ = tower.advance_grid(layer, x, prompts, both=both)
            torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
        x = expected


def values_and_gradients(model: vpt.Prompted, images: Tensor, plain: bool) -> list[Tensor]:
    torch.manual_seed(5)
    features = model.features(images, plain=plain)
    loss = (features * torch.linspace(-1, 1, features.shape[1], dtype=features.dtype)).sum() + features.pow(2).sum()
    return [features, *torch.autograd.grad(loss, model.parameter_groups()["prompts"])]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fast_form_equals_the_definition(swin: Example, variant: str) -> None:
    method, options = VARIANTS[variant]
    model = prompted(swin, method, **options).double().train()
    images = swin.images()
    fast, plain = (values_and_gradients(model, images, plain) for plain in (False, True))
    for got, expected in zip(fast, plain, strict=True):
        assert expected.abs().max() > 0
        scale = expected.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("plain", [False, True], ids=["fast", "plain"])
@pytest.mark.parametrize("method", ["vpt-deep", "vpt-shallow"])
def test_a_prediction_does_not_depend_on_the_rest_of_its_batch(swin: Example, method: str, plain: bool) -> None:
    model = prompted(swin, method, num_tokens=3).double()
    images = swin.images()
    together = model.features(images, plain=plain)
    alone = torch.cat([model.features(image[None], plain=plain) for image in images])
    torch.testing.assert_close(together, alone, rtol=TOLERANCE, atol=TOLERANCE)


def as_in_the_paper(tower: Any, x: Tensor, prompts: Tensor, layer: int) -> Tensor:
    """One image of timm's Swin V1 without shift or padding, window by window, in the words of the paper."""
    block, (height, width) = tower.block(layer), tower.block(layer).window_size
    attn, found = block.attn, torch.zeros_like(x)
    for top in range(0, x.shape[0], height):
        for left in range(0, x.shape[1], width):
            own = x[top : top + height, left : left + width].flatten(0, 1)
            tokens = block.norm1(torch.cat([prompts, own]))
            q, k, v = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).unbind(1)
            scores = torch.einsum("qhd,khd->hqk", q, k) * attn.scale
            scores[:, len(prompts) :, len(prompts) :] += attn._get_rel_pos_bias()[0]
            weighed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
            found[top : top + height, left : left + width] = attn.proj(weighed)[len(prompts) :].unflatten(
                0, (height, width)
            )
    x = x + found
    return x + block.mlp(block.norm2(x))


def test_prompts_stand_in_each_window() -> None:
    example = EXAMPLES["timm v1"]
    tower = prompted(example).double().tower
    x = tower.embed(example.images(1))
    prompts = torch.randn(1, 3, 12, dtype=torch.float64)
    found, _ = tower.advance_grid(0, x, prompts, both=False)
    torch.testing.assert_close(found[0], as_in_the_paper(tower, x[0], prompts[0], 0), rtol=TOLERANCE, atol=TOLERANCE)


def test_prompts_have_the_width_of_their_stage_and_are_counted() -> None:
    model = prompted(EXAMPLES["timm v1"], "vpt-deep", num_tokens=3)
    assert [tuple(model.method.image_prompts.prompts(layer, 1).shape) for layer in range(4)] == [(1, 3, 12)] * 2 + [
        (1, 3, 24)
    ] * 2
    assert [model.tower.width_at(layer) for layer in range(5)] == [12, 12, 24, 24, 24]
    assert model.num_tuned(head=False) == 3 * (2 * 12 + 2 * 24)
    with pytest.raises(VptError, match=r"have widths \[12, 12, 24, 24\]: leave shared and project out"):
        prompted(EXAMPLES["timm v1"], "vpt-deep", shared=True)
    with pytest.raises(
        VptError, match="clip-lora cannot be added to block 0 of the image encoder: it attends in windows"
    ):
        prompted(EXAMPLES["timm v1"], "clip-lora", head="linear")


def test_what_has_no_place_in_windows_is_not_named_as_what_works() -> None:
    with pytest.raises(VptError, match=r"gate-vpt cannot be used with .*: in stages only prompts") as error:
        prompted(EXAMPLES["timm v1"], "gate-vpt", temperature=False, num_tokens=2)
    named = str(error.value).rpartition("What works with it: ")[2].removesuffix(".").split(", ")
    assert {"vpt-deep", "vfpt", "spt", "norm", "full"} <= set(named)
    assert not {"lora", "ssf", "adapter", "prefix", "convpass", "fact", "lst"} & set(named)


def test_prompts_that_begin_as_patches_and_those_that_are_computed_once() -> None:
    example = EXAMPLES["timm v1"]
    model = prompted(example, "vpt-deep", num_tokens=3, init="patches").double()
    model.initialise(example.images())
    given = model.block_inputs(example.images(), prompted=False)
    assert [tuple(x.shape) for x in given] == [(3, 256, 12)] * 2 + [(3, 64, 24)] * 2
    for layer, x in enumerate(given):
        prompt = model.method.image_prompts.prompts(layer, 1)[0, 0]
        assert (x - prompt).abs().sum(-1).min() == 0
    assert model.block_inputs(example.images())[3].shape == (3, 67, 24)
    expected = model.features(example.images())
    torch.testing.assert_close(model.compile_prompts().features(example.images()), expected, rtol=1e-10, atol=1e-10)


def test_learned_prompts_are_saved_and_loaded(tmp_path: Path) -> None:
    example = EXAMPLES["timm v2"]
    model = prompted(example, "vpt-deep", num_tokens=2)
    model.save_pretrained(tmp_path / "saved")
    images = example.images(dtype=torch.float32)
    loaded = vpt.load(tmp_path / "saved", backbone=example.make())
    assert torch.equal(loaded(images), model(images))


def test_options_by_name_are_those_of_its_own_class() -> None:
    sizes = {"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 3], "window_size": 4}
    tower = load("timm/swin_tiny_patch4_window7_224", pretrained=False, image_size=32, **sizes).tower
    assert (tower.depth, tower.width_at(1)) == (2, 24)
    with pytest.raises(VptError, match="num_heads='x' will not do"):
        load("timm/swin_tiny_patch4_window7_224", pretrained=False, num_heads="x")


def test_other_swins_serve_whole() -> None:
    model = timm.create_model("swinv2_cr_tiny_ns_224", img_size=64, embed_dim=12, depths=(1, 1), num_heads=(2, 2))
    assert wrap(model).tower.closed is not None
    hooked = EXAMPLES["timm v1"].make()
    hooked.layers[0].blocks[0].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(VptError, match="forward hooks"):
        vpt.attach(hooked, "vpt-deep", num_classes=2)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(VptError, match="takes images of 64×64 pixels and got 32×32"):
        prompted(EXAMPLES["hf v1"])(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("recompute", ["mlp", "block"])
def test_what_is_computed_again_has_the_same_gradients(recompute: str) -> None:
    model = prompted(EXAMPLES["timm v1"], "vpt-deep", num_tokens=2).double().train()
    images = EXAMPLES["timm v1"].images()
    expected = values_and_gradients(model, images, plain=False)
    model.tower.recompute = recompute
    for got, kept in zip(values_and_gradients(model, images, plain=False), expected, strict=True):
        torch.testing.assert_close(got, kept, rtol=TOLERANCE, atol=TOLERANCE)
