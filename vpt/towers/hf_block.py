"""The blocks of transformers' ViT, DINOv2, CLIP and SigLIP, image and text alike, taken apart."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer
from transformers.models.dinov2.modeling_dinov2 import Dinov2Attention, Dinov2Layer
from transformers.models.siglip.modeling_siglip import SiglipAttention, SiglipEncoderLayer
from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer

from vpt.towers.attention import heads_of
from vpt.towers.base import Opened, why_hooked
from vpt.towers.stages import Out, mlp_of


class Names(NamedTuple):
    """What the parts of a layer are called; None for a part that it lacks."""

    kind: type
    attention: str
    output: str
    norm1: str
    norm2: str
    dropout: str
    drop: str | None = None
    scale1: str | None = None
    scale2: str | None = None


LAYERS: dict[type, Names] = {
    ViTLayer: Names(
        kind=ViTAttention,
        attention="attention",
        output="o_proj",
        norm1="layernorm_before",
        norm2="layernorm_after",
        dropout="attention_probs_dropout_prob",
        drop="dropout",
    ),
    Dinov2Layer: Names(
        kind=Dinov2Attention,
        attention="attention",
        output="o_proj",
        norm1="norm1",
        norm2="norm2",
        dropout="attention_probs_dropout_prob",
        drop="drop_path",
        scale1="layer_scale1",
        scale2="layer_scale2",
    ),
    CLIPEncoderLayer: Names(
        kind=CLIPAttention,
        attention="self_attn",
        output="out_proj",
        norm1="layer_norm1",
        norm2="layer_norm2",
        dropout="attention_dropout",
    ),
    SiglipEncoderLayer: Names(
        kind=SiglipAttention,
        attention="self_attn",
        output="out_proj",
        norm1="layer_norm1",
        norm2="layer_norm2",
        dropout="attention_dropout",
    ),
}


def run_layer(block: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A layer on tokens (B, N, D); it takes masks, (N, N) or (B, N, N), with a place for batch and heads."""
    if mask is not None:
        mask = mask[None, None] if mask.ndim == 2 else mask[:, None]
    found: Tensor = block(x, attention_mask=mask)
    return found


def why_not_layer(block: Any) -> str | None:
    """Why a block cannot be opened by `open_layer`: it is not known, or has hooks."""
    if type(block) not in LAYERS:
        return f"{type(block).__name__} is not a layer of ViT, DINOv2, CLIP or SigLIP"
    names = LAYERS[type(block)]
    attn: nn.Module = getattr(block, names.attention)
    if type(attn) is not names.kind:
        return f"{type(attn).__name__} is not transformers' {names.kind.__name__}"
    return why_hooked(block, attn)


def open_layer(block: Any) -> Opened:
    """The parts of transformers' pre-norm layers, which differ in names, layer scale and dropout."""
    names = LAYERS[type(block)]
    attn = getattr(block, names.attention)
    norm1, norm2, drop, scale1, scale2 = (
        getattr(block, name) if name else nn.Identity()
        for name in (names.norm1, names.norm2, names.drop, names.scale1, names.scale2)
    )
    output, num_heads = getattr(attn, names.output), attn.config.num_attention_heads

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        return heads_of(attn.k_proj(y), num_heads), heads_of(attn.v_proj(y), num_heads)

    return Opened(
        norm=norm1,
        query_key_value=lambda y: (heads_of(attn.q_proj(y), num_heads), *key_value(y)),
        key_value=key_value,
        out=Out(output, lambda x: drop(scale1(x))),
        feed=mlp_of(block.mlp, norm2, lambda x: drop(scale2(x))),
        dropout=getattr(attn.config, names.dropout) if attn.training else 0.0,
    )
