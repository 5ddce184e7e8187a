"""Attention as it is shown: the weights are the library's own, prompts and patches are found where they stand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import Example, clip, hooked, images_for, vit
from vpt import VptError
from vpt.report.attention import attention, attention_picture, attention_weights
from vpt.towers import load as towers

SAME = {"rtol": 1e-10, "atol": 1e-10}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def prompted(method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    return vpt.attach(image_text_model(), method, classes=CLASSES, head="text", **options).double()


def tokens(tower: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 9, tower.width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}], ids=["plain", "q and k norm"])
def test_weights_are_those_of_timm_s_own_attention(options: dict[str, object]) -> None:
    model = vit(**options).double()
    tower, taken = towers.wrap(model).tower, []
    x = tokens(tower)
    for layer, block in enumerate(model.blocks):
        expected = attention_weights(tower.open(layer), x)
        block.attn.fused_attn = False
        with block.attn.attn_drop.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0])):
            block(x)
        torch.testing.assert_close(expected, taken.pop(), **SAME)


def test_weights_are_those_of_open_clip_s_own_attention() -> None:
    model = clip().double()
    tower = towers.wrap(model).tower
    x = tokens(tower)
    for layer, block in enumerate(model.visual.transformer.resblocks):
        y = block.ln_1(x)
        _, expected = block.attn(y, y, y, need_weights=True, average_attn_weights=False)
        torch.testing.assert_close(attention_weights(tower.open(layer), x), expected, **SAME)


def test_values_summed_by_the_weights_are_the_library_s_own_block(example: Example) -> None:
    tower = towers.wrap(example.make().double()).tower
    x = tokens(tower)
    for layer in set(range(tower.depth)) - example.whole:
        block = tower.open(layer)
        weights, y = attention_weights(block, x), block.norm(x)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), **SAME)
        values = block.projected(y)[2].transpose(1, 2)
        after = x + block.out((weights @ values).transpose(1, 2).flatten(2), y)
        after = after if block.post1 is None else block.post1(after)
        found = after + block.feed(x if block.parallel else after)
        found = found if block.post2 is None else block.post2(found)
        torch.testing.assert_close(found, tower.run(layer, x), **SAME)


@pytest.mark.parametrize("method", ["vpt-shallow", "vpt-deep", "ivlp", "maple", "promptsrc"])
def test_prompts_and_patches_are_found_where_they_stand(method: str) -> None:
    model = prompted(method)
    given, found = model.block_inputs(IMAGES), attention(model, IMAGES)
    embedded = model.tower.embed(IMAGES)
    torch.testing.assert_close(given[0][:, found[0].patches], embedded[:, 1:], **SAME)
    torch.testing.assert_close(given[0][:, found[0].read], embedded[:, :1], **SAME)
    for layer in model.method.image_prompts.enters:
        expected = model.method.image_prompts.prompts(layer, 2).to(torch.float64)
        if layer == 0 and model.method.image_prompts.before_norm:
            expected = model.tower.pre_norm(expected)
        torch.testing.assert_close(given[layer][:, found[layer].prompts], expected.expand(2, -1, -1), **SAME)


def test_what_is_attended_to_is_all_that_there_is() -> None:
    for method, prefix in (("vpt-deep", 5), ("linear", 5)):
        model = vpt.attach(vit(reg_tokens=4), method, num_classes=2).double()
        for block in attention(model, images_for(model.tower.model)):
            to_prefix = block.weights[:, block.read][:, :, :prefix].sum((1, 2))
            to_patches, to_prompts = block.read_to_patches().sum((1, 2)), block.read_to_prompts().sum(1)
            torch.testing.assert_close(to_prefix + to_patches + to_prompts, torch.ones(3, dtype=torch.float64), **SAME)
            assert block.read_to_patches().shape == (3, 4, 4)
            assert len(block.prompts) == (10 if method == "vpt-deep" else 0)


def test_a_patch_and_its_place_in_the_grid_are_the_same() -> None:
    model = vpt.attach(vit(img_size=(16, 40)), "vpt-deep", num_tokens=2, num_classes=2).double()
    block = attention(model, images_for(model.tower.model), blocks=[1])[0]
    assert block.grid == (2, 5)
    # Patch (1, 3) is number 8 of the patches, which stand behind the class token and two prompts.
    torch.testing.assert_close(block.read_to_patches()[:, 1, 3], block.weights[:, 0, 3 + 8])
    torch.testing.assert_close(block.patches_to_prompts()[:, 1, 1, 3], block.weights[:, 3 + 8, 2])


def test_prompts_look_at_patches_only_where_they_are_advanced() -> None:
    def advanced(method: str, **options: object) -> list[bool]:
        return [block.advanced for block in attention(prompted(method, **options), IMAGES)]

    assert advanced("vpt-deep") == [False, False, False]
    assert advanced("vpt-shallow") == [True, True, False]
    assert advanced("vpt-deep", last=2) == [False, False, False]
    assert advanced("ivlp", depth=2) == [False, True, False]
    assert advanced("coop") == [False, False, False]
    shallow = attention(prompted("vpt-shallow", num_tokens=3), IMAGES)
    assert shallow[1].prompts_to_patches().shape == (2, 3, 2, 2)
    with pytest.raises(VptError, match="block 2 advances no prompts: nothing reads what prompts attend to"):
        shallow[2].prompts_to_patches()


def test_a_pooled_model_reads_all_tokens_but_the_prompts() -> None:
    model = vpt.attach(vit(class_token=False, global_pool="avg"), "vpt-deep", num_tokens=2, num_classes=2).double()
    block = attention(model, images_for(model.tower.model), blocks=[0])[0]
    assert block.read.tolist() == block.patches.tolist() == list(range(2, 18))


def test_a_method_s_part_in_the_blocks_is_seen() -> None:
    pytest.importorskip("peft")
    model = prompted("clip-lora")
    before = attention(model, IMAGES)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(0.3)
    after = attention(model, IMAGES)
    assert not torch.allclose(before[0].weights, after[0].weights)
    torch.testing.assert_close(after[2].weights.sum(-1), torch.ones_like(after[2].weights[..., 0]))


def test_looking_leaves_the_model_as_it_is() -> None:
    model = prompted("vpt-deep", dropout=0.5).train()
    first, second = attention(model, IMAGES)[0], attention(model, IMAGES)[0]
    assert torch.equal(first.weights, second.weights)
    assert model.training
    assert not first.weights.requires_grad


def test_what_cannot_be_looked_at_is_said() -> None:
    model = vpt.attach(hooked(), "vpt-deep", num_classes=2).double()
    images = images_for(model.tower.model)
    with pytest.raises(VptError, match=r"the attention of block 1 cannot be looked at \(Attention has forward hooks"):
        attention(model, images)
    assert [block.layer for block in attention(model, images, blocks=[2, 0])] == [2, 0]
    with pytest.raises(VptError, match="there is no block 3: the backbone has 0 to 2"):
        attention(model, images, blocks=[3])


def test_a_picture_has_a_row_for_each_thing_that_is_shown(tmp_path: Path) -> None:
    photo = vpt.data.load("things", train=1, val=1, test=1).test.image(0)
    photo.save(tmp_path / "a $b$ photo.png")

    def titles(method: str, **options: object) -> list[str]:
        model = vpt.attach(image_text_model(), method, classes=CLASSES, head="text", **options)
        figure = attention_picture(model, [tmp_path / "a $b$ photo.png", photo], each_prompt=method == "ivlp")
        figure.savefig(tmp_path / "picture.png")
        axes = [axis for axis in figure.axes if axis.get_title() == "a $b$ photo.png"]
        assert len(axes) == 1
        names = [axis.get_ylabel().replace("\n", " ") for axis in figure.axes if axis.get_ylabel()]
        assert names[: len(names) // 2] == names[len(names) // 2 :]
        return names[: len(names) // 2]

    read, to_all, to_each = "read-out token to patches", "patches to all prompts", "read-out token to each prompt"
    assert titles("coop") == [read]
    assert titles("vpt-deep", num_tokens=2) == [read, to_all, to_each]
    assert titles("ivlp", depth=2) == [
        *(read, to_all, "patches to prompt 1", "patches to prompt 2", to_each),
        "prompts to patches",
    ]


def test_a_picture_holds_a_few_images() -> None:
    photo = vpt.data.load("things", train=1, val=1, test=1).test.image(0)
    for count in (0, 9):
        with pytest.raises(VptError, match=f"{count} images: one picture holds 1 to 8"):
            attention_picture(prompted(), [photo] * count)
