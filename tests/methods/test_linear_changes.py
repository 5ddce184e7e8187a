"""SSF, RepAdapter and FacT: against the library's own modules, and merged with its weights for inference."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.plain import assert_learns_alike, filled
from tests.zoo import clip, images_for, vit
from vpt.errors import VptError
from vpt.merge import _matrix


def ssf(model: nn.Module, method: nn.Module) -> None:
    """Scale and shift of what each module gives."""

    def behind(module: nn.Module, scale: nn.ParameterDict, shift: nn.ParameterDict, key: str, layer: int) -> None:
        module.register_forward_hook(lambda module, inputs, output: output * scale[key][layer] + shift[key][layer])

    for layer, block in enumerate(model.blocks):
        places = {"norm1": block.norm1, "qkv": block.attn.qkv, "o": block.attn.proj}
        for key, module in (places | {"norm2": block.norm2, "up": block.mlp.fc1, "down": block.mlp.fc2}).items():
            behind(module, method.blocks.scale, method.blocks.shift, key, layer)
    for key, module in (("embed", model.patch_embed), ("norm", model.norm)):
        module.register_forward_hook(
            lambda module, inputs, output, key=key: output * method.ends.scale[key] + method.ends.shift[key]
        )


def repadapter(model: nn.Module, method: nn.Module) -> None:
    """A convolution of one step with groups, on the normed tokens."""

    def adapted(part: nn.Module, layer: int, y: Tensor) -> Tensor:
        hidden = F.linear(y, part.down[layer], part.down_bias[layer]).transpose(1, 2)
        found = F.conv1d(hidden, part.up[layer].unsqueeze(-1), part.up_bias[layer], groups=part.groups)
        return y + part.scale * found.transpose(1, 2)

    for layer, block in enumerate(model.blocks):
        for part, norm in ((method.attention, block.norm1), (method.mlp, block.norm2)):
            norm.register_forward_hook(
                lambda module, inputs, output, part=part, layer=layer: adapted(part, layer, output)
            )


def fact(model: nn.Module, method: nn.Module) -> None:
    """Each layer's change by itself, as the matrix that is added to its weights."""
    part, width = method.factors, 24

    def core(layer: int, index: int) -> Tensor:
        if part.form == "tt":
            return part.cores[layer, index]
        count, r = 12, part.rank
        every = torch.einsum("ijk,km->ijm", part.cores, part.vectors[:, layer * count : (layer + 1) * count])
        if index < 4:
            return every[:, :, index]
        pieces = every[:, :, 4:8] if index < 8 else every[:, :, 8:]
        matrix = pieces.reshape(r, 4 * r)[:, (index - 4) % 4 * r : ((index - 4) % 4 + 1) * r]
        return matrix if index < 8 else matrix.T

    def weight(layer: int, index: int) -> Tensor:
        return part.scale * part.up @ core(layer, index).T @ part.down

    def put(module: nn.Linear, layer: int, indices: range, dim: int) -> None:
        module.register_forward_hook(
            lambda module, inputs, output: (
                output + F.linear(inputs[0], torch.cat([weight(layer, index) for index in indices], dim))
            )
        )

    for layer, block in enumerate(model.blocks):
        put(block.attn.qkv, layer, range(3), 0)
        put(block.attn.proj, layer, range(3, 4), 0)
        put(block.mlp.fc1, layer, range(4, 8), 0)
        put(block.mlp.fc2, layer, range(8, 12), 1)
    assert width == part.down.shape[1]


METHODS = {
    "ssf": ("ssf", {}, ssf),
    "repadapter": ("repadapter", {"rank": 4, "dropout": 0.0, "scale": 0.5}, repadapter),
    "fact-tt": ("fact", {"rank": 3, "dropout": 0.0}, fact),
    "fact-tk": ("fact", {"rank": 3, "dropout": 0.0, "form": "tk", "scale": 2.0}, fact),
}


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_are_those_of_hooks_in_the_library_s_modules(name: str) -> None:
    method, options, put = METHODS[name]
    assert_learns_alike(vit, method, options, put)


@pytest.mark.parametrize("method", ["ssf", "repadapter", "fact"])
@pytest.mark.parametrize("library", [vit, clip], ids=["timm", "open_clip"])
def test_merged_they_cost_nothing_and_prompts_beside_them_are_folded(library: object, method: str) -> None:
    torch.manual_seed(2)
    model = vpt.attach(library(), ["vpt-deep", method], num_classes=3, num_tokens=3, head="linear")
    model = filled(model.double()).eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    apart = model.features(images)
    torch.testing.assert_close(apart, model.features(images, plain=True), rtol=0, atol=1e-10)
    merged = model.compile_prompts()
    torch.testing.assert_close(merged.features(images), apart, rtol=0, atol=1e-10)
    assert set(merged._folded.attended) == {0, 1, 2}
    prompts = vpt.attach(library(), "vpt-deep", num_classes=3, num_tokens=3, head="linear").double().compile_prompts()
    assert operations(merged, images) <= operations(prompts, images)


def test_weights_are_merged_beside_large_biases_in_half_precision() -> None:
    layer = nn.Linear(6, 4)
    nn.init.constant_(layer.bias, 50.0)
    layer.bfloat16()
    weight, bias = _matrix(layer, torch.zeros(1, 1, 6, dtype=torch.bfloat16))
    torch.testing.assert_close(weight, layer.weight, rtol=2**-7, atol=1e-3)
    assert torch.equal(bias, layer.bias)


def operations(model: vpt.Prompted, images: Tensor) -> int:
    """How much arithmetic a pass says: products, and all that goes over tokens by element."""
    with torch.profiler.profile() as profile, torch.no_grad():
        model.features(images)
    names = ("addmm", "mm", "bmm", "linear", "add", "add_", "mul", "mul_", "addcmul", "convolution")
    return sum(event.count for event in profile.key_averages() if event.key.removeprefix("aten::") in names)


def test_what_an_encoder_lacks_is_scaled_nowhere() -> None:
    """Without a norm between blocks and pooling there is nothing behind them to scale; a bias of CLIP's is made."""
    pooled = vpt.attach(vit(global_pool="avg"), "ssf", num_classes=3)
    assert list(pooled.method.ends.scale) == ["embed"]
    model = filled(vpt.attach(clip(), "ssf", num_classes=3, head="linear").double())
    assert model.tower.model.conv1.bias is None
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = model.features(images)
    with torch.no_grad():
        model.method.ends.shift["embed"].add_(torch.linspace(0, 1, 24))
    assert not torch.allclose(model.features(images), before)
    assert model.tower.model.conv1.bias is None


@pytest.mark.parametrize(
    ("methods", "library", "sentence"),
    [
        (["lora", "fact"], {}, "both take the image q"),
        ([{"name": "repadapter", "rank": 3}], {}, "groups=2 must divide rank=3"),
        (["fact"], {"mlp_ratio": 2.5}, "fact takes the MLP apart in pieces of the width 24"),
        (["ssf"], {"qk_norm": True}, "ssf cannot be added to block 0 of the image encoder: its queries and keys are"),
    ],
)
def test_what_cannot_be_is_told(methods: list[object], library: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(vit(**library), methods, num_classes=3)


def test_ssf_is_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = filled(vpt.attach(vit(), "ssf", num_classes=3))
    model.save_pretrained(tmp_path / "ssf")
    loaded = vpt.load(tmp_path / "ssf", backbone=vit())
    images = images_for(vit())
    assert torch.equal(loaded.features(images), model.eval().features(images))
