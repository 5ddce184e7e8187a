"""AdaptFormer, adapters and Adapter+: against the library's own blocks with what is learned put into them by hooks."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.plain import assert_learns_alike, filled, library_features
from tests.zoo import images_for, vit
from vpt.errors import VptError


def bottleneck(part: nn.Module, layer: int, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    hidden = act(x @ part.down[layer].T + part.down_bias[layer])
    return hidden @ part.up[layer].T + part.up_bias[layer]


def adaptformer(model: nn.Module, method: nn.Module) -> None:
    """x before the second norm is what the first sum gives: the norm's input, added to what the MLP gives."""
    for layer, block in enumerate(model.blocks):
        seen: list[Tensor] = []
        block.norm2.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        block.mlp.register_forward_hook(
            lambda module, inputs, output, seen=seen, layer=layer: (
                output + 0.1 * bottleneck(method.beside, layer, seen.pop(), F.relu)
            )
        )


def adapter(model: nn.Module, method: nn.Module) -> None:
    for layer, block in enumerate(model.blocks):
        for part, module in ((getattr(method, "attention", None), block.attn), (method.mlp, block.mlp)):
            if part is not None:
                module.register_forward_hook(
                    lambda module, inputs, output, part=part, layer=layer: (
                        output + bottleneck(part, layer, output, F.gelu)
                    )
                )


def adapter_plus(model: nn.Module, method: nn.Module) -> None:
    for layer, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda module, inputs, output, layer=layer: (
                output + method.behind.scales[layer] * bottleneck(method.behind, layer, output, F.gelu)
            )
        )


METHODS = {
    "adaptformer": ("adaptformer", {"rank": 4, "dropout": 0.0}, adaptformer),
    "houlsby": ("adapter", {"rank": 4}, adapter),
    "pfeiffer": ("adapter", {"rank": 4, "kind": "pfeiffer"}, adapter),
    "adapter+": ("adapter+", {"rank": 4, "drop_path": 0.0}, adapter_plus),
}


@pytest.mark.parametrize("name", METHODS)
def test_twenty_steps_are_those_of_hooks_in_the_library_s_blocks(name: str) -> None:
    method, options, put = METHODS[name]
    assert_learns_alike(vit, method, options, put)


def test_a_path_is_dropped_for_whole_images() -> None:
    model = filled(vpt.attach(vit(), "adapter+", num_classes=3, drop_path=0.5).double()).train()
    torch.manual_seed(0)
    x = torch.randn(8, 5, 24, dtype=torch.float64)
    added = model.method.behind.added(0, x)
    dropped = (added == 0).all(-1).all(-1)
    assert 0 < int(dropped.sum()) < 8
    model.eval()
    torch.testing.assert_close(added[~dropped], 2 * model.method.behind.added(0, x)[~dropped], rtol=0, atol=1e-12)


def test_adapters_begin_near_to_the_frozen_model() -> None:
    images = images_for(vit().double())
    frozen = library_features(vit().double(), images)
    for method in ("adaptformer", "adapter", "adapter+"):
        found = vpt.attach(vit(), method, num_classes=3).double().features(images)
        torch.testing.assert_close(found, frozen, rtol=0, atol=1e-12 if method == "adaptformer" else 0.05)


def test_what_follows_a_method_s_name_in_a_combination_is_kept() -> None:
    model = filled(vpt.attach(vit(), ["adapter+", "vpt-deep", "lora"], num_classes=3).double()).eval()
    assert model.method.name == "adapter++vpt-deep+lora"
    images = images_for(model.tower.model)
    plain = model.features(images, plain=True)
    torch.testing.assert_close(model.compile_prompts().features(images), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (["adaptformer", "convpass"], "both take the branch beside the image MLP"),
        ([{"name": "adapter", "rank": 0}], "rank=0 leaves nothing to learn"),
        ([{"name": "adaptformer", "dropout": 1.0}], "dropout=1.0 must be at least 0 and below 1"),
    ],
)
def test_what_cannot_be_is_told(methods: list[object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(vit(), methods, num_classes=3)


def test_a_block_that_is_not_opened_is_told() -> None:
    from tests.zoo import OwnBlock

    with pytest.raises(VptError, match="adapter cannot be added to block 0 of the image encoder: OwnBlock is not one"):
        vpt.attach(vit(block_fn=OwnBlock), "adapter", num_classes=3)
