"""Small random backbones, one for each feature of the architectures that are supported."""

from collections.abc import Callable
from functools import partial

import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import nn

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 7}


def vit(name: str = "vit_tiny_patch16_224", **options: object) -> nn.Module:
    """A small timm model whose every parameter, scale and position differs from its initial value."""
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def hooked() -> nn.Module:
    model = vit()
    model.blocks[1].attn.register_forward_hook(lambda module, inputs, output: output * 1.5)
    return model


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "class token": vit,
    "no class token": partial(vit, class_token=False, global_pool="avg"),
    "average pooling": partial(vit, global_pool="avg"),
    "average with prefix": partial(vit, global_pool="avg", pool_include_prefix=True),
    "average and maximum": partial(vit, global_pool="avgmax"),
    "map pooling": partial(vit, "vit_base_patch16_siglip_224"),
    "registers": partial(vit, reg_tokens=4),
    "registers, no position of class": partial(vit, reg_tokens=2, no_embed_class=True),
    "distilled": partial(vit, "deit_tiny_distilled_patch16_224"),
    "deit 3": partial(vit, "deit3_small_patch16_224"),
    "clip, norm before blocks": partial(vit, "vit_base_patch32_clip_224"),
    "clip, quick gelu": partial(vit, "vit_base_patch32_clip_quickgelu_224"),
    "layer scale": partial(vit, init_values=0.5),
    "q and k norm": partial(vit, qk_norm=True),
    "norms in attention and mlp": partial(vit, scale_attn_norm=True, scale_mlp_norm=True),
    "no biases": partial(vit, qkv_bias=False, proj_bias=False),
    "swiglu": partial(vit, mlp_layer=SwiGLUPacked),
    "patch 14": partial(vit, img_size=28, patch_size=14),
    "patch 16": partial(vit, patch_size=16),
    "patch 32": partial(vit, img_size=64, patch_size=32),
    "oblong": partial(vit, img_size=(16, 40)),
    "any input size": partial(vit, dynamic_img_size=True),
    "parallel blocks": partial(vit, block_fn=ParallelScalingBlock),
    "parallel things": partial(vit, block_fn=ParallelThingsBlock),
    "norm after residual": partial(vit, block_fn=ResPostBlock),
    "differential attention": partial(vit, attn_layer="diff"),
    "convolutional stem": partial(vit, "vit_tiny_r_s16_p8_224", img_size=64),
    "hooked attention": hooked,
}

WHOLE_BLOCKS = {"parallel blocks", "parallel things", "norm after residual", "differential attention"}


def images_for(model: nn.Module, batch: int = 3) -> torch.Tensor:
    """Random images of the size that `model` takes, in its precision."""
    generator = torch.Generator().manual_seed(1)
    size = model.patch_embed.img_size
    return torch.randn(batch, 3, *size, generator=generator, dtype=next(model.parameters()).dtype)
