"""A network beside the encoder: its plain form, and that nothing of the encoder is kept for a backward pass."""

import pytest
import torch
from torch import Tensor

import vpt
from tests.methods.plain import assert_learns_alike, filled
from tests.zoo import images_for, vit
from vpt.errors import VptError


@pytest.mark.parametrize("residual", [True, False])
def test_twenty_steps_are_those_of_a_network_that_is_shown_the_library_s_blocks(residual: bool) -> None:
    def put(library: torch.nn.Module, learned: torch.nn.Module) -> None:
        part, seen = learned.side, []
        for block in library.blocks:
            block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

        def read(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            tokens = [*seen, inputs[0]]
            seen.clear()
            side = part.downs[0](tokens[0])
            for layer, block in enumerate(part.blocks):
                gate = torch.sigmoid(part.gates[layer] / 0.1)
                side = block(gate * part.downs[layer + 1](tokens[layer + 1]) + (1 - gate) * side)
            return ((tokens[-1] if residual else 0) + part.up(side),)

        library.norm.register_forward_pre_hook(read)

    assert_learns_alike(vit, "lst", {"reduction": 2, "residual": residual}, put)


def test_the_plain_form_is_the_same_and_begins_as_the_frozen_encoder() -> None:
    model = vpt.attach(vit(), "lst", num_classes=3).double()
    images = images_for(model.tower.model)
    frozen = vpt.attach(vit(), "linear", num_classes=3).double().features(images)
    torch.testing.assert_close(model.features(images), frozen, rtol=0, atol=1e-12)
    filled(model)
    torch.testing.assert_close(model.features(images), model.features(images, plain=True), rtol=0, atol=1e-12)
    assert not torch.allclose(model.features(images), frozen)


def test_nothing_of_the_encoder_s_blocks_is_kept() -> None:
    model = filled(vpt.attach(vit(), "lst", num_classes=3, reduction=8)).train()
    own = {parameter.data_ptr() for parameter in model.tower.model.blocks.parameters()}
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images_for(model.tower.model)).sum().backward()
    assert saved
    assert not own & {tensor.data_ptr() for tensor in saved}
    assert max(tensor.shape[-1] for tensor in saved if tensor.ndim == 3) == 24


@pytest.mark.parametrize("other", ["vpt-deep", "lora", "bias", "prefix", "ssf"])
def test_nothing_else_is_learned_in_the_encoder(other: str) -> None:
    with pytest.raises(VptError, match=r"nothing is learned in it, as .* would be: name one of the two"):
        vpt.attach(vit(), ["lst", other], num_classes=3)


def test_a_width_that_is_not_divided_is_told() -> None:
    with pytest.raises(VptError, match="reduction=5 must divide the width of the backbone"):
        vpt.attach(vit(), "lst", num_classes=3, reduction=5)
