"""Small random backbones of families beside the plain Vision Transformer, each put through `check_tower`.

A row in `SLOW` is of a kind that another row is of too, and is tested where slow tests are. Rows that the installed
timm is too old to build are left out (`NEWER`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from packaging.version import Version
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock, ParallelThingsBlock
from torch import Tensor, nn

from tests.zoo import HF, SMALL, Example, class_token, pooled, shaken, timm_features, vit

EVA = {**SMALL, "depth": 2, "embed_dim": 24, "num_heads": 2, "mlp_ratio": 2.0}
# Their first layer takes images of any size.
FLEXIBLE = {key: value for key, value in EVA.items() if key != "img_size"}


def of_timm(name: str, size: tuple[int, int] = (32, 32), **options: object) -> Example:
    return Example(partial(vit, name, **{**EVA, "img_size": size, **options}), timm_features, size)


def flexible(name: str, size: tuple[int, int] = (32, 32), **options: object) -> Example:
    def make() -> nn.Module:
        return shaken(partial(timm.create_model, name, **{**FLEXIBLE, **options}))

    return Example(make, timm_features, size)


TIMM = {
    "eva-02": of_timm("eva02_tiny_patch14_224"),
    "dinov3": of_timm("vit_small_patch16_dinov3"),
    "perception encoder": of_timm("vit_pe_core_tiny_patch16_384", attn_pool_num_heads=2),
    "rope, mixed for each block": of_timm("vit_base_patch16_rope_mixed_ape_224"),
    "beit": of_timm("beit_base_patch16_224"),
    "beit, shared positions": of_timm("beit_base_patch16_224", use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    "relative positions": of_timm("vit_relpos_base_patch16_clsgap_224"),
    "naflex": flexible("naflexvit_base_patch16_gap", (24, 40)),
    "parallel blocks, fused": of_timm(
        "vit_pwee_patch16_reg1_gap_256", block_fn=partial(ParallelScalingBlock, fuse_out_proj=True)
    ),
    "parallel, differential": of_timm("vit_tiny_patch16_224", block_fn=DiffParallelScalingBlock, qk_norm=True),
}

TIMM_SLOW = {
    "eva-02, norms in attention and mlp": of_timm("eva02_base_patch14_224"),
    "eva-02, any size": of_timm("eva02_tiny_patch14_224", (24, 40), dynamic_img_size=True),
    "eva-02, padded": of_timm("eva02_tiny_patch14_224", (27, 40), dynamic_img_size=True, dynamic_img_pad=True),
    "eva-02, no biases": of_timm("eva02_tiny_patch14_224", qkv_bias=False),
    "eva-02, q and k norm": of_timm("eva02_tiny_patch14_224", qk_norm=True),
    "eva, norms behind": of_timm("eva02_tiny_patch14_224", use_post_norm=True),
    "eva, no rotation": of_timm("eva_large_patch14_196"),
    "rope, axial": of_timm("vit_base_patch16_rope_224"),
    "rope, mixed": of_timm("vit_base_patch16_rope_mixed_224", dynamic_img_size=True),
    "rope, register, pooled": of_timm("vit_base_patch16_rope_reg1_gap_256"),
    "rope, three sections": of_timm("eva02_tiny_patch14_224", rope_type="mrope", rope_mrope_section=(2, 2, 2)),
    "grouped queries": of_timm("eva02_tiny_patch14_224", attn_type="rope", qkv_fused=False, num_kv_heads=1),
    "beit, positions of all kinds": of_timm(
        "beit_base_patch16_224", use_shared_rel_pos_bias=True, use_abs_pos_emb=True, global_pool="token"
    ),
    "beit, no relative positions": of_timm("beitv2_base_patch16_224", use_rel_pos_bias=False, use_abs_pos_emb=True),
    "relative positions, shared, norms behind": of_timm("vit_srelpos_small_patch16_224"),
    "relative positions, norms behind": of_timm("vit_relpos_small_patch16_rpn_224"),
    "relative positions, class token": of_timm("vit_relpos_base_patch16_cls_224"),
    "naflex, rotary": flexible("naflexvit_base_patch16_gap", rope_type="axial"),
    "naflex, mixed rotary": flexible("naflexvit_base_patch16_gap", rope_type="mixed"),
    "naflex, siglip": flexible("naflexvit_base_patch16_siglip"),
    "several in parallel, differential": of_timm(
        "vit_tiny_patch16_224", attn_layer="diff", block_fn=ParallelThingsBlock, qk_norm=True
    ),
    "parallel, q and k norm": of_timm("vit_dpwee_patch16_reg1_gap_256"),
    "parallel, fused inwards": of_timm("vit_pwee_patch16_reg1_gap_256"),
    "parallel, class token": of_timm(
        "vit_tiny_patch16_224", block_fn=partial(ParallelScalingBlock, fuse_out_proj=True), init_values=0.3
    ),
}

SMALL_HF = {**HF, "num_hidden_layers": 2, "num_attention_heads": 2}


def of_hf(
    kind: str, features: Callable[[Any, Tensor], Tensor], pooling: bool | None = None, **options: object
) -> Example:
    import transformers

    def make() -> nn.Module:
        config = getattr(transformers, kind.removesuffix("Model") + "Config")
        given = {} if pooling is None else {"add_pooling_layer": pooling}
        return shaken(lambda: getattr(transformers, kind)(config(**{**SMALL_HF, **options}), **given))

    return Example(make, features)


def siglip2(size: tuple[int, int] = (32, 32)) -> Example:
    import transformers

    def make() -> nn.Module:
        given = {key: value for key, value in SMALL_HF.items() if key != "image_size"}
        config = transformers.Siglip2VisionConfig(**given, num_patches=16)
        return shaken(lambda: transformers.Siglip2VisionModel(config))

    return Example(make, flattened, size)


def flattened(model: Any, images: Tensor) -> Tensor:
    """Features of SigLIP 2, which is given patches as its own image processor cuts them."""
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    patches = torch.stack([convert_image_to_patches(image, 8) for image in images])
    shape = torch.tensor([[images.shape[-2] // 8, images.shape[-1] // 8]] * len(images))
    seen = torch.ones(patches.shape[:2], dtype=torch.long)
    return model(pixel_values=patches, pixel_attention_mask=seen, spatial_shapes=shape).pooler_output


def unmasked(model: Any, images: Tensor) -> Tensor:
    """MAE's class token where no patch is masked, and patches stay in their order."""
    model.config.mask_ratio = 0.0
    return model(pixel_values=images, noise=torch.arange(16.0).expand(len(images), -1)).last_hidden_state[:, 0]


def mean(model: Any, images: Tensor) -> Tensor:
    return model(pixel_values=images).last_hidden_state.mean(1)


OF_HF = {
    "hf beit": of_hf("BeitModel", pooled, use_relative_position_bias=True, layer_scale_init_value=0.5),
    "hf data2vec": of_hf("Data2VecVisionModel", pooled, pooling=True, use_relative_position_bias=True),
    "hf dinov3": of_hf("DINOv3ViTModel", pooled, num_register_tokens=3),
    "hf mae": of_hf("ViTMAEModel", unmasked),
    "hf siglip 2": siglip2((24, 40)),
    "hf blip": of_hf("BlipVisionModel", pooled),
}

OF_HF_SLOW = {
    "hf deit": of_hf("DeiTModel", class_token),
    "hf msn": of_hf("ViTMSNModel", class_token),
    "hf i-jepa": of_hf("IJepaModel", mean),
    "hf beit, class token, shared positions": of_hf(
        "BeitModel", pooled, use_shared_relative_position_bias=True, use_mean_pooling=False
    ),
    "hf beit, positions of all kinds": of_hf(
        "BeitModel",
        pooled,
        use_absolute_position_embeddings=True,
        use_relative_position_bias=True,
        use_shared_relative_position_bias=True,
    ),
    "hf beit, no relative positions": of_hf("BeitModel", pooled),
    "hf data2vec, shared positions": of_hf(
        "Data2VecVisionModel", pooled, pooling=True, use_shared_relative_position_bias=True
    ),
    "hf data2vec, no relative positions": of_hf(
        "Data2VecVisionModel", pooled, pooling=True, use_absolute_position_embeddings=True, layer_scale_init_value=0.0
    ),
    "hf dinov2, registers": of_hf("Dinov2WithRegistersModel", pooled, mlp_ratio=2),
    "hf dinov3, gated": of_hf("DINOv3ViTModel", pooled, num_register_tokens=1, use_gated_mlp=True),
    "hf metaclip 2": of_hf("MetaClip2VisionModel", pooled),
    "hf chinese-clip": of_hf("ChineseCLIPVisionModel", pooled),
    "hf altclip": of_hf("AltCLIPVisionModel", pooled),
    "hf siglip 2, square": siglip2(),
}


def of_open_clip(name: str, size: tuple[int, int] = (32, 32), **options: object) -> Example:
    """A timm model as open_clip's image tower, with a projection behind it."""

    def make() -> nn.Module:
        from open_clip.timm_model import TimmModel

        model = TimmModel("vit_tiny_patch16_224", 12, proj="linear", pool="avg")
        model.trunk = vit(name, **{**EVA, "num_classes": 0, "img_size": size, **options})
        model.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(model.trunk.num_features, 12))
        model.image_size = size
        return model

    return Example(lambda: shaken(make), lambda m, x: m(x), size)


def coca() -> Example:
    def make() -> nn.Module:
        from open_clip.coca_model import CoCa, MultimodalCfg
        from open_clip.model import CLIPTextCfg, CLIPVisionCfg

        text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
        own = {"layers": 2, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 32, "mlp_ratio": 2.0}
        pooling = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        decoder = MultimodalCfg(width=16, heads=2, layers=1, attn_pooler_heads=2, context_length=8)
        return CoCa(
            12, decoder, CLIPTextCfg(**text, embed_cls=True, output_tokens=True), CLIPVisionCfg(**own, **pooling)
        )

    return Example(lambda: shaken(make), lambda m, x: m.encode_image(x, normalize=False))


OF_OPEN_CLIP = {
    "open_clip eva": of_open_clip("eva02_tiny_patch14_224"),
    "open_clip coca": coca(),
}

OF_OPEN_CLIP_SLOW = {
    "open_clip perception encoder": of_open_clip("vit_pe_core_tiny_patch16_384", attn_pool_num_heads=2),
}

# What timm builds from these versions on, or before could not run in float64.
NEWER = {
    "rope, mixed for each block": "1.0.31",
    "eva-02, q and k norm": "1.0.30",
    "grouped queries": "1.0.30",
    "rope, three sections": "1.0.31",
}


def built(rows: dict[str, Example]) -> dict[str, Example]:
    """Those that the installed timm can build."""
    installed = Version(timm.__version__)
    return {name: row for name, row in rows.items() if installed >= Version(NEWER.get(name, "0"))}


FAST = {**built(TIMM), **OF_HF, **OF_OPEN_CLIP}
SLOW = {**built(TIMM_SLOW), **OF_HF_SLOW, **OF_OPEN_CLIP_SLOW}
FAMILIES = {**FAST, **SLOW}
