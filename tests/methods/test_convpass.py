"""Convpass: against the library's own modules with convolutions put beside them, with and without prompts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.plain import assert_learns_alike, filled
from tests.zoo import vit
from vpt.errors import VptError

GRIDS = {"square": {}, "wide": {"img_size": (16, 40)}, "registers": {"reg_tokens": 3, "global_pool": "avg"}}


def branch(part: nn.Module, layer: int, y: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Each token before the patches an image of one pixel, in the convolution as the library has it."""

    def convolved(h: Tensor, height: int, width: int) -> Tensor:
        image = h.transpose(1, 2).unflatten(2, (height, width))
        found = F.conv2d(image, part.kernel[layer], part.kernel_bias[layer], padding=1)
        return found.flatten(2).transpose(1, 2)

    def g(h: Tensor) -> Tensor:
        return h * torch.sigmoid(1.702 * h)

    hidden = g(F.linear(y, part.down[layer], part.down_bias[layer]))
    alone = [convolved(hidden[:, [index]], 1, 1) for index in range(prefix)]
    hidden = g(torch.cat([*alone, convolved(hidden[:, prefix:], *grid)], dim=1))
    return part.scale * F.linear(hidden, part.up[layer], part.up_bias[layer])


def beside(model: nn.Module, method: nn.Module) -> None:
    grid, prefix = model.patch_embed.grid_size, model.num_prefix_tokens
    for layer, block in enumerate(model.blocks):
        for part, module in ((method.attention, block.attn), (method.mlp, block.mlp)):
            module.register_forward_hook(
                lambda module, inputs, output, part=part, layer=layer: (
                    output + branch(part, layer, inputs[0], prefix, grid)
                )
            )


@pytest.mark.parametrize("grid", GRIDS)
def test_twenty_steps_are_those_of_hooks_in_the_library_s_modules(grid: str) -> None:
    options = {"rank": 4, "dropout": 0.0, "scale": 0.5}
    assert_learns_alike(lambda: vit(**GRIDS[grid]), "convpass", options, beside, steps=20 if grid == "square" else 1)


@pytest.mark.parametrize("prompts", ["vpt-deep", "vpt-shallow"])
def test_prompts_are_images_of_one_patch_wherever_they_stand(prompts: str) -> None:
    torch.manual_seed(1)
    model = filled(vpt.attach(vit(img_size=(16, 40)), [prompts, "convpass"], num_classes=3, num_tokens=2).double())
    images = torch.randn(2, 3, 16, 40, dtype=torch.float64)
    plain = model.eval().features(images, plain=True)
    torch.testing.assert_close(model.features(images), plain, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.compile_prompts().features(images), plain, rtol=0, atol=1e-10)


def test_without_an_mlp_that_shows_its_layers_it_is_refused() -> None:
    from tests.methods.test_lora import Other

    with pytest.raises(VptError, match="convpass cannot be added to the first layer of the MLP of block 0"):
        vpt.attach(vit(mlp_layer=Other), "convpass", num_classes=3)
