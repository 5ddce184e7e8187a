"""Visual prompts as Jia et al. define them, in what the shared battery does not see."""

import math

import pytest
import torch

import vpt
from tests.zoo import SMALL, clip, images_for, vit
from vpt import VptError


def prompted(method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    return vpt.attach(vit().double(), method, num_classes=3, **options).double()


def test_prompts_start_within_the_papers_bound() -> None:
    values = prompted(num_tokens=200).method.prompts.values
    bound = math.sqrt(6 / (3 * SMALL["patch_size"] ** 2 + SMALL["embed_dim"]))
    assert values.abs().max() <= bound
    assert values.abs().max() > 0.99 * bound
    assert abs(values.mean()) < bound / 50


def test_the_bound_follows_the_size_of_projected_prompts() -> None:
    values = prompted(num_tokens=400, project=4).method.prompts.values
    bound = math.sqrt(6 / (3 * SMALL["patch_size"] ** 2 + 4))
    assert 0.99 * bound < values.abs().max() <= bound


def test_shallow_prompts_are_the_first_block_of_deep_ones() -> None:
    shallow, deep = prompted("vpt-shallow", num_tokens=4), prompted("vpt-deep", num_tokens=4, first=1)
    deep.load_tuned_state(shallow.tuned_state())
    images = images_for(vit().double())
    assert torch.equal(shallow(images), deep(images))


def test_prompt_dropout_draws_a_mask_for_each_image() -> None:
    model = prompted(num_tokens=6, dropout=0.5).train()
    drawn = model.method.prompts.prompts(1, batch=3)
    assert drawn.shape == (3, 6, SMALL["embed_dim"])
    assert not torch.equal(drawn[0] == 0, drawn[1] == 0)


def test_without_dropout_prompts_are_computed_once_for_the_batch() -> None:
    model = prompted(num_tokens=6, dropout=0.5).eval()
    assert model.method.prompts.prompts(1, batch=3).shape == (1, 6, SMALL["embed_dim"])


def test_initialised_from_patches_each_prompt_is_what_its_block_is_given() -> None:
    model = prompted(num_tokens=5, init="patches")
    images = images_for(vit().double())
    model.initialise(images)
    x = model.tower.embed(images)
    for layer in range(model.tower.depth):
        patches = x[:, 1:].flatten(0, 1)
        for prompt in model.method.prompts.values[layer]:
            assert (patches == prompt).all(-1).any()
        x = model.tower.advance(layer, x)


def test_no_graph_is_built_below_the_first_prompt() -> None:
    model = prompted(num_tokens=2, last=1).train()
    seen = []
    for layer, block in enumerate(model.tower.model.blocks):
        block.norm2.register_forward_pre_hook(
            lambda module, inputs, layer=layer: seen.append((layer, inputs[0].requires_grad))
        )
    model(images_for(vit().double()))
    assert seen == [(0, False), (1, False), (2, True)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_tokens": 0}, "num_tokens=0 leaves no prompt to learn"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"first": 2, "last": 2}, "give one of first, last and blocks"),
        ({"first": 4}, "4 blocks cannot have prompts: the backbone has 1 to 3"),
        ({"last": 0}, "0 blocks cannot have prompts"),
        ({"blocks": [1, 1]}, "blocks=[1, 1] must name blocks from 0 to 2, each once"),
        ({"blocks": [3]}, "blocks=[3] must name blocks from 0 to 2"),
        ({"project": 4, "init": "patches"}, "init='patches' sets prompts of the backbone's width"),
        ({"init": "zeros"}, "method.init='zeros' will not do"),
        ({"num_tokns": 3}, "method.num_tokns is no option of vpt-deep: did you mean 'num_tokens'"),
    ],
)
def test_bad_options_are_told_in_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        prompted(**options)
    assert sentence in str(error.value)


def test_too_few_patches_to_initialise_from() -> None:
    model = prompted(num_tokens=100, init="patches")
    with pytest.raises(VptError, match="48 patch tokens cannot initialise 100 prompts"):
        model.initialise(images_for(vit().double()))


def seen_by(model: vpt.Prompted, part: str) -> list[tuple[int, ...]]:
    """Sizes (rows, tokens) of what a part of each block is given in one pass over three images."""
    seen: list[tuple[int, ...]] = []
    for block in model.tower.model.blocks:
        block.get_submodule(part).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[:2]))
    model(images_for(vit().double()))
    return seen


def test_deep_prompts_are_not_advanced_and_of_the_last_block_only_the_class_token_is() -> None:
    assert seen_by(prompted(num_tokens=5), "mlp") == [(3, 17), (3, 17), (3, 1)]


def test_shallow_prompts_are_advanced_as_long_as_another_block_reads_them() -> None:
    assert seen_by(prompted("vpt-shallow", num_tokens=5), "mlp") == [(3, 22), (3, 22), (3, 1)]


def test_keys_and_values_of_deep_prompts_are_computed_once_for_the_batch() -> None:
    shapes = seen_by(prompted(num_tokens=5), "attn.qkv")
    # With the image's tokens, in one product; but by themselves in the first block, where those want no gradient.
    assert shapes == [(1, 5), (3, 17), *[(1, 3 * 17 + 5)] * 2]


def test_prompt_dropout_makes_them_one_for_each_image_in_training_alone() -> None:
    model = prompted(num_tokens=5, dropout=0.5)
    assert seen_by(model.train(), "attn.qkv") == [(3, 5), (3, 17), *[(3, 17 + 5)] * 2]
    evaluated = prompted(num_tokens=5, dropout=0.5).eval()
    assert seen_by(evaluated, "attn.qkv") == [(1, 5), (3, 17), *[(1, 3 * 17 + 5)] * 2]


def test_prompts_can_be_drawn_from_a_normal_distribution() -> None:
    values = prompted(num_tokens=400, init="normal").method.prompts.values
    assert values.std().item() == pytest.approx(0.02, rel=0.05)


def test_prompts_of_the_first_block_can_go_through_clips_norm() -> None:
    model = vpt.attach(clip().double(), "vpt-deep", num_classes=3, num_tokens=2, pre_norm=True).double()
    left = vpt.attach(clip().double(), "vpt-deep", num_classes=3, num_tokens=2).double()
    left.load_tuned_state(model.tuned_state())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.features(images), model.features(images, plain=True), rtol=0, atol=1e-10)
    assert (model(images) - left(images)).abs().max() > 1e-4
    normed = model.tower.pre_norm(model.method.prompts.values[:1])
    left.method.prompts.values.data[0] = normed[0]
    torch.testing.assert_close(left(images), model(images), rtol=0, atol=1e-10)
