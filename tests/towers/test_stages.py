"""The linear stages of blocks: each family's block is what its stages make together."""

import pytest
import torch
from torch import nn

from tests.zoo import vit
from vpt.towers.load import wrap
from vpt.towers.picking import Neighbours
from vpt.towers.stages import Mlp, Out, mlp_of


@pytest.mark.parametrize("kind", ["plain", "layer scale"])
def test_a_block_of_timm_has_its_output_projection_and_the_layers_of_its_mlp_apart(kind):
    model = vit(**({"init_values": 0.1} if kind == "layer scale" else {}))
    block = wrap(model).tower.open(0)
    assert isinstance(block.out, Out)
    assert isinstance(block.feed, Mlp)
    assert block.feed.up is model.blocks[0].mlp.fc1
    assert block.out.project is model.blocks[0].attn.proj


def test_a_sequence_of_two_layers_is_taken_apart_with_what_stands_between_and_behind():
    mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 4), nn.Dropout(0.5)).eval()
    apart = mlp_of(mlp, nn.Identity())
    x = torch.randn(3, 4)
    assert isinstance(apart, Mlp)
    assert torch.equal(apart(x), mlp(x))


def test_an_mlp_with_a_hook_stays_whole_so_that_the_hook_sees_what_goes_through():
    mlp, seen = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)), []
    mlp.register_forward_hook(lambda module, given, found: seen.append(given))
    whole = mlp_of(mlp, nn.Identity())
    whole(torch.randn(3, 4))
    assert not isinstance(whole, Mlp)
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [Out, Mlp, Neighbours])
def test_what_is_called_can_be_told_apart_before_it_has_its_attributes(kind: type) -> None:
    # As compilers do which make it while they trace a loop; torch 2.11 fails otherwise.
    assert {object.__new__(kind), object.__new__(kind)}
