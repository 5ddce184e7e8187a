"""Small random backbones, one for each feature of the architectures that are supported."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import Block, ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import Tensor, nn

# Why a method goes with no backbone of a kind.
REFUSALS = (
    "cannot be added to block",
    "which is not opened",
    "takes the MLP apart in pieces",
    "need images of one size",
    "learns keys and values of one size",
    "looks at the grid of patches",
    "a convolution, which this encoder has not",
    "learned is for images of",
)

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 7}


@dataclass(frozen=True)
class Example:
    """A backbone: how it is made, its library's own features, the size of its images, and its unopened blocks."""

    make: Callable[[], nn.Module]
    features: Callable[[Any, Tensor], Tensor]
    size: tuple[int, int] = (32, 32)
    whole: frozenset[int] = frozenset()

    def images(self, batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, 3, *self.size, generator=generator, dtype=dtype)


def shaken(make: Callable[[], nn.Module]) -> nn.Module:
    """The same model at every call, with every parameter, scale and position away from its initial value."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def vit(name: str = "vit_tiny_patch16_224", **options: object) -> nn.Module:
    return shaken(partial(timm.create_model, name, **{**SMALL, **options}))


def images_for(model: nn.Module, batch: int = 3) -> Tensor:
    """Random images of the size that a `vit` takes, in its precision."""
    generator = torch.Generator().manual_seed(1)
    dtype = next(model.parameters()).dtype
    return torch.randn(batch, 3, *model.patch_embed.img_size, generator=generator, dtype=dtype)


class OwnBlock(Block):
    """A block that no tower knows, and that is run whole."""


def hooked() -> nn.Module:
    model = vit()
    model.blocks[1].attn.register_forward_hook(lambda module, inputs, output: output * 1.5)
    return model


def timm_features(model: Any, images: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def from_timm(
    name: str = "vit_tiny_patch16_224", size: tuple[int, int] = (32, 32), whole: bool = False, **options: object
) -> Example:
    make = partial(vit, name, img_size=size, **options)
    return Example(make, timm_features, size, frozenset(range(3)) if whole else frozenset())


def clip(**vision: object) -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    own = {"layers": 3, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 32, "mlp_ratio": 2.0}
    text = CLIPTextCfg(context_length=16, vocab_size=64, width=16, heads=2, layers=2)
    return shaken(partial(CLIP, embed_dim=12, vision_cfg=CLIPVisionCfg(**{**own, **vision}), text_cfg=text))


def siglip() -> nn.Module:
    from open_clip.timm_model import TimmModel

    def make() -> nn.Module:
        model = TimmModel("vit_tiny_patch16_224", 12, proj="linear", pool="avg")
        model.trunk = vit("vit_base_patch16_siglip_224", num_classes=0)
        model.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(24, 12))
        model.image_size = (32, 32)
        return model

    return shaken(make)


def from_open_clip(whole: bool = False, **vision: object) -> Example:
    blocks = frozenset(range(3)) if whole else frozenset()
    return Example(partial(clip, **vision), lambda m, x: m.encode_image(x), whole=blocks)


HF = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}


def from_hf(kind: str, features: Callable[[Any, Tensor], Tensor], **options: object) -> Example:
    import transformers

    def make() -> nn.Module:
        config = getattr(transformers, kind.partition("Model")[0] + "Config")
        return shaken(lambda: getattr(transformers, kind)(config(**{**HF, **options})))

    return Example(make, features)


def pooled(model: Any, images: Tensor) -> Tensor:
    return model(pixel_values=images).pooler_output


def class_token(model: Any, images: Tensor) -> Tensor:
    return model(pixel_values=images).last_hidden_state[:, 0]


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    options = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 48}
    return shaken(partial(VisionTransformer, **options, num_classes=7))


def torchvision_features(model: Any, images: Tensor) -> Tensor:
    taken: list[Tensor] = []
    with model.heads.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0])):
        model(images)
    return taken[0]


EXAMPLES: dict[str, Example] = {
    "class token": from_timm(),
    "no class token": from_timm(class_token=False, global_pool="avg"),
    "average pooling": from_timm(global_pool="avg"),
    "average with prefix": from_timm(global_pool="avg", pool_include_prefix=True),
    "average and maximum": from_timm(global_pool="avgmax"),
    "map pooling": from_timm("vit_base_patch16_siglip_224"),
    "registers": from_timm(reg_tokens=4),
    "registers, no position of class": from_timm(reg_tokens=2, no_embed_class=True),
    "distilled": from_timm("deit_tiny_distilled_patch16_224"),
    "deit 3": from_timm("deit3_small_patch16_224"),
    "clip, norm before blocks": from_timm("vit_base_patch32_clip_224"),
    "clip, quick gelu": from_timm("vit_base_patch32_clip_quickgelu_224"),
    "layer scale": from_timm(init_values=0.5),
    "q and k norm": from_timm(qk_norm=True),
    "norms in attention and mlp": from_timm(scale_attn_norm=True, scale_mlp_norm=True),
    "no biases": from_timm(qkv_bias=False, proj_bias=False),
    "swiglu": from_timm(mlp_layer=SwiGLUPacked),
    "patch 14": from_timm(size=(28, 28), patch_size=14),
    "patch 16": from_timm(patch_size=16),
    "patch 32": from_timm(size=(64, 64), patch_size=32),
    "oblong": from_timm(size=(16, 40)),
    "any input size": from_timm(dynamic_img_size=True),
    "convolutional stem": from_timm("vit_tiny_r_s16_p8_224", size=(64, 64)),
    "parallel blocks": from_timm(block_fn=ParallelScalingBlock),
    "parallel things": from_timm(block_fn=ParallelThingsBlock),
    "norm after residual": from_timm(block_fn=ResPostBlock),
    "differential attention": from_timm(attn_layer="diff"),
    "a block of one's own": from_timm(block_fn=OwnBlock, whole=True),
    "hooked attention": Example(hooked, timm_features, whole=frozenset({1})),
    "open_clip": from_open_clip(),
    "open_clip, average": from_open_clip(pool_type="avg"),
    "open_clip, norm after pooling": from_open_clip(final_ln_after_pool=True),
    "open_clip, attentional pooling": from_open_clip(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2),
    "open_clip, layer scale, no norm before": from_open_clip(ls_init_value=0.3, no_ln_pre=True),
    "open_clip, custom blocks": from_open_clip(block_type="custom", qk_norm=True, whole=True),
    "open_clip, timm trunk": Example(siglip, lambda m, x: m(x)),
    "hf vit": from_hf("ViTModel", class_token),
    "hf vit, no bias": from_hf("ViTModel", class_token, qkv_bias=False),
    "hf dinov2": from_hf("Dinov2Model", pooled, mlp_ratio=2),
    "hf dinov2, swiglu": from_hf("Dinov2Model", pooled, mlp_ratio=2, use_swiglu_ffn=True),
    "hf clip": from_hf("CLIPVisionModel", pooled),
    "hf clip, projected": from_hf(
        "CLIPVisionModelWithProjection", lambda m, x: m(pixel_values=x).image_embeds, projection_dim=12
    ),
    "hf siglip": from_hf("SiglipVisionModel", pooled),
    "torchvision": Example(torchvision_vit, torchvision_features),
}
