"""Small random backbones of families beside the plain Vision Transformer, each put through `check_tower`.

A row in `SLOW` is of a kind that another row is of too, and is tested where slow tests are.
"""

from functools import partial

import timm
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock, ParallelThingsBlock
from torch import nn

from tests.zoo import SMALL, Example, shaken, timm_features, vit

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
        "vit_tiny_patch16_224", block_fn=partial(ParallelScalingBlock, fuse_out_proj=True), init_values=0.3
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
}

FAST = {**TIMM}
SLOW = {**TIMM_SLOW}
FAMILIES = {**FAST, **SLOW}
