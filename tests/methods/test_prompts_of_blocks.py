"""Prompts of all blocks at once are those that are asked for block by block, in fewer operations."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

import vpt
from tests.methods.plain import filled
from tests.operations import operations
from tests.zoo import vit
from vpt.methods.parts.base import ImagePrompts, TextPrompts
from vpt.methods.parts.deep import DeepText
from vpt.methods.parts.tokens import Tokens

ON_IMAGES = {
    "vpt-shallow": {},
    "vpt-deep": {},
    "vpt-deep, projected": {"project": 6},
    "vpt-deep, last": {"last": 1},
    "vfpt": {"num_tokens": 5},
    "vfpt, projected": {"num_tokens": 4, "project": 6, "share": 1.0},
    "spt": {},
    "e2vpt": {"num_tokens": 3},
}
BOTH = ("ivlp", "maple", "promptsrc")


def on_images(name: str) -> vpt.Prompted:
    torch.manual_seed(1)
    return filled(vpt.attach(vit(), name.partition(",")[0], num_classes=3, **ON_IMAGES[name]).double())


def on_both(name: str) -> vpt.Prompted:
    vision = CLIPVisionCfg(layers=4, width=12, head_width=6, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=16, vocab_size=49408, width=8, heads=2, layers=4)
    torch.manual_seed(1)
    return filled(vpt.attach(CLIP(12, vision, text), name, classes=["cat", "dog"]).double())


def one_by_one(part: ImagePrompts | TextPrompts, x: Tensor) -> dict[int, Tensor]:
    if isinstance(part, TextPrompts):
        return {layer: part.prompts(layer).to(x.dtype) for layer in part.enters}
    return {layer: part.entering(layer, x, None) for layer in part.enters}


def parts() -> dict[str, Callable[[], ImagePrompts | TextPrompts]]:
    return {
        **{name: partial(lambda name: on_images(name).method.image_prompts, name) for name in ON_IMAGES},
        **{f"{name}, images": partial(lambda name: on_both(name).method.image_prompts, name) for name in BOTH},
        **{f"{name}, texts": partial(lambda name: on_both(name).method.text_prompts, name) for name in BOTH},
    }


@pytest.mark.parametrize("name", parts())
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_they_are_those_of_each_block(name: str, dtype: torch.dtype) -> None:
    part = parts()[name]().train(mode="e2vpt" not in name)
    x = torch.zeros(2, 5, 12, dtype=dtype)
    if dtype == torch.bfloat16:
        # A norm of the encoder is in its precision, as prompts are that go through it.
        part.before_norm = False
    at_once, each = part.for_blocks(dtype), one_by_one(part, x)
    assert at_once.keys() == each.keys()
    for layer, found in at_once.items():
        torch.testing.assert_close(found, each[layer], rtol=0, atol=0 if dtype == torch.bfloat16 else 1e-12)


@pytest.mark.parametrize("name", ["vpt-deep", "vpt-deep, projected", "vfpt", "maple, images", "ivlp, texts"])
def test_they_say_less_to_a_device_than_block_by_block(name: str) -> None:
    part = parts()[name]()
    x = torch.zeros(2, 5, 12, dtype=torch.float64)

    def passes(make: Callable[[], dict[int, Tensor]]) -> None:
        torch.stack([each.square().sum() for each in make().values()]).sum().backward()

    at_once, each = (
        operations(partial(passes, make)).total()
        for make in (lambda: dict(part.for_blocks(torch.float64)), lambda: one_by_one(part, x))
    )
    assert at_once < each


@pytest.mark.parametrize("options", [{"prefix": {}}, {"e2vpt": {"num_keys": 2, "dropout": 0.0}}])
def test_keys_and_values_are_those_of_each_block_in_fewer_operations(options: dict[str, dict[str, object]]) -> None:
    ((name, given),) = options.items()
    part = filled(vpt.attach(vit(), name, num_classes=3, **given).double()).method.keys_values
    ways = (lambda: part.for_blocks(torch.float64), lambda: {layer: part.keys_values(layer) for layer in part.enters})
    at_once, each = (make() for make in ways)
    assert at_once.keys() == each.keys() == part.enters
    for layer, found in at_once.items():
        torch.testing.assert_close(found, each[layer], rtol=0, atol=0)

    def passes(make: Callable[[], dict[int, tuple[Tensor, Tensor]]]) -> None:
        torch.stack([key.sin().sum() * value.sum() for key, value in make().values()]).sum().backward()

    counts = [operations(partial(passes, make)).total() for make in ways]
    assert counts[0] < counts[1]


def test_masks_of_images_are_drawn_block_by_block() -> None:
    part = Tokens(vpt.attach(vit(), "linear", num_classes=2).tower, [0, 1], num_tokens=2, dropout=0.5)
    assert not part.for_blocks(torch.float32)
    assert part.eval().for_blocks(torch.float32).keys() == {0, 1}


class Doubled(Tokens):
    def prompts(self, layer: int, batch: int) -> Tensor:
        return 2 * super().prompts(layer, batch)


class DoubledText(DeepText):
    def prompts(self, layer: int, classes: Tensor | None = None) -> Tensor:
        return 2 * super().prompts(layer, classes)


def test_a_part_with_other_prompts_than_its_base_is_asked_block_by_block() -> None:
    tower = vpt.attach(vit(), "linear", num_classes=2).tower

    assert not Doubled(tower, [0, 1], num_tokens=2).for_blocks(torch.float32)
    text = on_both("ivlp").text.tower
    assert not DoubledText(text, num_context=2, depth=2, init=None).for_blocks(torch.float32)
