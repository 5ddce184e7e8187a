"""Fourier, gated, adaptive and self-prompts, and keys and values, each against a plain form of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.plain import assert_learns_alike, filled
from tests.zoo import EXAMPLES, OwnBlock, images_for, vit
from vpt.errors import VptError
from vpt.methods.parts.clusters import pooled_clusters

METHODS = {
    "vfpt": {"num_tokens": 5},
    "vfpt, projected": {"num_tokens": 4, "project": 6, "share": 1.0},
    "gate-vpt": {"num_tokens": 3, "gate": -1.0},
    "vapt": {"num_tokens": 3, "dropout": 0.0, "drop_channels": 0.0, "hidden": 4},
    "vapt, later": {"num_tokens": 3, "learned": 2, "kernel": 3, "dropout": 0.0, "drop_channels": 0.0},
    "prefix": {"num_tokens": 3},
    "e2vpt": {"num_tokens": 3, "num_keys": 2},
    "spt": {"num_tokens": 3, "init": "mean"},
}


def inputs(model: vpt.Prompted) -> Tensor:
    return images_for(model.tower.model)


def made(name: str) -> vpt.Prompted:
    torch.manual_seed(1)
    model = vpt.attach(vit(), name.partition(",")[0], num_classes=3, **METHODS[name]).double()
    if model.needs_images:
        model.initialise(inputs(model))
    return filled(model)


@pytest.mark.parametrize("name", METHODS)
def test_the_fast_form_equals_the_definition_in_values_and_gradients(name: str) -> None:
    model = made(name).train()
    found = []
    for plain in (False, True):
        model.zero_grad()
        features = model.features(inputs(model), plain=plain)
        features.square().sum().backward()
        gradients = {key: each.grad for key, each in model.method.named_parameters()}
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
        found.append((features.detach(), gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)
    model.compile_prompts()
    torch.testing.assert_close(model.features(inputs(model)), found[1][0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_of_the_fast_form_are_those_of_the_definition(name: str) -> None:
    trained = []
    for plain in (False, True):
        model = made(name).train()
        optimizer = torch.optim.SGD(model.method.parameters(), lr=0.01, momentum=0.9)
        for _ in range(20):
            optimizer.zero_grad()
            features = model.features(inputs(model), plain=plain)
            F.cross_entropy(model.head(features), torch.tensor([0, 1, 2])).backward()
            optimizer.step()
        trained.append({key: each.detach() for key, each in model.method.named_parameters()})
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-8, atol=1e-9)


def sequence(model: nn.Module, prompts: object, images: Tensor) -> Tensor:
    """The library's blocks on [prefix, prompts, patches], prompts given by layer, tokens and what became of them."""
    x, before, carried = model._pos_embed(model.patch_embed(images)), None, None
    for layer, block in enumerate(model.blocks):
        before = prompts(layer, x, before, carried)  # type: ignore[operator]
        entering = before.expand(len(x), -1, -1)
        whole = block(torch.cat([x[:, :1], entering, x[:, 1:]], dim=1))
        count = entering.shape[1]
        carried, x = whole[:, 1 : 1 + count], torch.cat([whole[:, :1], whole[:, 1 + count :]], dim=1)
    return model.forward_head(model.norm(x), pre_logits=True)


def test_fourier_prompts_are_two_transforms_of_the_first_ones() -> None:
    model = made("vfpt")
    values = model.method.prompts.values.detach()
    channels = torch.fft.fft(values[:, :2], dim=-1)
    first = torch.fft.fft(channels, dim=-2).real
    prompts = torch.cat([first, values[:, 2:]], dim=1)
    expected = sequence(vit().double(), lambda layer, x, before, carried: prompts[[layer]], inputs(model))
    torch.testing.assert_close(model.features(inputs(model)), expected, rtol=0, atol=1e-10)


def test_gated_prompts_are_mixed_with_what_each_block_makes_of_them() -> None:
    model, library = made("gate-vpt"), vit().double()
    method = model.method

    def mixed(layer: int, x: Tensor, before: Tensor, carried: Tensor) -> Tensor:
        if not layer:
            return method.prompts.values
        gate = method.prompts.logits[layer - 1].sigmoid()
        return gate * carried + (1 - gate) * before

    for layer, block in enumerate(library.blocks):
        block.attn.fused_attn = False
        block.attn.scale = block.attn.scale / method.temperature.values[layer].item()
    expected = sequence(library, mixed, inputs(model))
    torch.testing.assert_close(model.features(inputs(model)), expected, rtol=0, atol=1e-10)


def test_a_temperature_beyond_its_bounds_counts_as_the_bound_and_learns_on() -> None:
    model = made("gate-vpt")
    with torch.no_grad():
        model.method.temperature.values.copy_(torch.tensor([-3.0, 1.0, 50.0]))
    beyond = model.features(inputs(model))
    beyond.square().sum().backward()
    assert model.method.temperature.values.grad.all()
    with torch.no_grad():
        model.method.temperature.values.copy_(torch.tensor([0.01, 1.0, 10.0]))
    torch.testing.assert_close(model.features(inputs(model)), beyond, rtol=0, atol=1e-12)


def test_adaptive_prompts_are_a_convolution_a_sum_and_two_layers() -> None:
    model, library = made("vapt"), vit().double()
    part = model.method.prompts

    def adaptive(layer: int, x: Tensor, before: Tensor, carried: Tensor) -> Tensor:
        if not layer:
            return part.values
        scale, shift = part.norms[layer - 1]
        patches = F.layer_norm(x, (24,), scale, shift)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        kernel = part.kernels[layer - 1].expand(24, 1, -1, -1)
        convolved = F.conv2d(patches, kernel, groups=24).flatten(2)
        sums = F.linear(convolved, part.weights[layer - 1], part.constants[layer - 1]).transpose(1, 2)
        return sums + F.linear(F.relu(F.linear(sums, part.down)), part.up)

    expected = sequence(library, adaptive, inputs(model))
    torch.testing.assert_close(model.features(inputs(model)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_twenty_steps_with_keys_and_values_are_those_of_attention_that_has_them(shared: bool) -> None:
    method, options = ("e2vpt", {"num_keys": 2}) if shared else ("prefix", {"num_tokens": 2})

    def put(library: nn.Module, learned: nn.Module) -> None:
        part = learned.keys if shared else learned.prefix

        def forward(attn: nn.Module, layer: int, x: Tensor, **options: object) -> Tensor:
            q, k, v = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            keys, values = part.values[layer][0], part.values[layer][-1]
            k = torch.cat([keys.transpose(0, 1).expand(len(x), -1, -1, -1), k], dim=2)
            v = torch.cat([values.transpose(0, 1).expand(len(x), -1, -1, -1), v], dim=2)
            found = torch.softmax(q @ k.transpose(-2, -1) * attn.scale, dim=-1) @ v
            return attn.proj(found.transpose(1, 2).flatten(2))

        for layer, block in enumerate(library.blocks):
            block.attn.forward = lambda x, attn=block.attn, layer=layer, **options: forward(attn, layer, x)
            if shared:
                block.register_forward_pre_hook(
                    lambda module, inputs, layer=layer: entered(inputs[0], learned.prompts.values[layer], layer)
                )
        if shared:
            library.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0][:, :1],))

    def entered(x: Tensor, prompts: Tensor, layer: int) -> tuple[Tensor]:
        patches = x[:, 1:] if layer == 0 else x[:, 1 + len(prompts) :]
        return (torch.cat([x[:, :1], prompts.expand(len(x), -1, -1), patches], dim=1),)

    assert_learns_alike(vit, method, options, put)


def test_self_prompts_are_pools_of_clusters() -> None:
    tokens = torch.tensor([[0.0, 1.0], [0.0, 3.0], [9.0, 8.0], [11.0, 6.0]])
    centres = tokens[[0, 3]]
    mean, most = (pooled_clusters(tokens, centres, pool) for pool in ("mean", "max"))
    assert torch.equal(mean, torch.tensor([[0.0, 2.0], [10.0, 7.0]]))
    assert torch.equal(most, torch.tensor([[0.0, 3.0], [11.0, 8.0]]))
    model = vpt.attach(vit(), "spt", num_classes=3, num_tokens=2, init="max").double()
    assert model.needs_images
    model.initialise(inputs(model))
    given = model.block_inputs(inputs(model), prompted=False)[1][:, 1:].flatten(0, 1)
    assert (model.method.prompts.values[1].amax(0) == given.amax(0)).all()


@pytest.mark.parametrize(
    ("method", "library", "sentence"),
    [
        ("prefix", {"block_fn": OwnBlock}, "prefix cannot be added to block 0 of the image encoder: OwnBlock"),
        ("gate-vpt", {"qk_norm": True}, "gate-vpt cannot be added to block 0 of the image encoder: its queries"),
        ("vapt", {"dynamic_img_size": True}, "prompts that sum over patches need images of one size"),
    ],
)
def test_what_an_encoder_has_no_place_for_is_told(method: str, library: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(vit(**library), method, num_classes=3)


@pytest.mark.parametrize("tower", ["registers", "average pooling", "map pooling"])
@pytest.mark.parametrize("method", ["gate-vpt", "e2vpt", "convpass", "ssf", "adapter+"])
def test_on_other_towers_the_fast_form_equals_the_definition(tower: str, method: str) -> None:
    torch.manual_seed(1)
    model = filled(vpt.attach(EXAMPLES[tower].make(), method, num_classes=3).double()).eval()
    images = EXAMPLES[tower].images()
    plain = model.features(images, plain=True)
    torch.testing.assert_close(model.features(images), plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.compile_prompts().features(images), plain, rtol=1e-10, atol=1e-10)
