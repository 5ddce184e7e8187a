"""timm's `VisionTransformer` family, opened (Wightman, https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Attention, Mlp
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vpt.towers import sizes, stages
from vpt.towers.attention import separate
from vpt.towers.base import ImageTower, Opened, why_hooked, without
from vpt.towers.stages import Out, is_hooked


class TimmTower(ImageTower):
    """timm's `VisionTransformer` family: any pooling, prefix tokens, patch and image size.

    The classifier is left out; the weights are shared with `model`, which itself stays as it is.

    Args:
        model: a `VisionTransformer`.
        projection: of what is read, as open_clip adds it to timm's models.
    """

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        super().__init__()
        sizes.check_channels(model, f"this {type(model).__name__}")
        self.model = without(model)
        self.model.reset_classifier(0)
        self.width = model.embed_dim
        self.depth = len(model.blocks)
        self.num_features = model.num_features
        self.projection = projection
        self.prefix = model.num_prefix_tokens
        # The distilled model reads class and distillation token, the others that pool by token the first.
        reads_tokens = model.global_pool == "token" and getattr(model, "attn_pool", None) is None
        self.read = (2 if isinstance(model, VisionTransformerDistilled) else 1) if reads_tokens else None
        self.patch_size = model.patch_embed.feat_ratio(as_scalar=True)
        any_size = getattr(model, "dynamic_img_size", False)
        self.image_size = None if any_size else tuple(model.patch_embed.img_size)
        if projection is not None:
            with torch.no_grad():
                token = next(model.parameters()).new_zeros(1, self.prefix + 1, self.width)
                self.num_features = self.readout(token).shape[-1]

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, positions, patch dropout and CLIP's norm before block 0."""
        if not self.model.patch_embed.dynamic_img_pad:
            images = sizes.fitted(images, self)
        x = self.model._pos_embed(self.model.patch_embed(images))
        return self.model.norm_pre(self.model.patch_drop(x))

    def block(self, layer: int) -> nn.Module:
        """timm's block."""
        return self.model.blocks[layer]

    def readout(self, x: Tensor) -> Tensor:
        """Norm, pooling, the norm after pooling, and the projection."""
        features = self.model.forward_head(self.model.norm(x), pre_logits=True)
        return features if self.projection is None else self.projection(features)

    def final_norm(self) -> nn.Module:
        """`norm`, an identity in models that norm after pooling."""
        return self.model.norm

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """`norm_pre`."""
        return self.model.norm_pre(tokens)

    def why_whole(self, layer: int) -> str | None:
        """A block other than timm's plain pre-norm one with plain attention, or one with hooks."""
        block: Any = self.block(layer)
        if type(block) is not Block:
            return f"{type(block).__name__} is not timm's pre-norm Block"
        if type(block.attn) is not Attention:
            return f"{type(block.attn).__name__} is not timm's plain Attention"
        return why_hooked(block, block.attn)

    def open(self, layer: int) -> Opened:
        """The parts of `Block` and of its `Attention`."""
        block: Any = self.block(layer)
        attn = block.attn

        linear = isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity)

        def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
            qkv = attn.qkv(y).unflatten(-1, (3, attn.num_heads, attn.head_dim))
            if linear:
                return (qkv,)
            q, k, v = qkv.unbind(2)
            return attn.q_norm(q), attn.k_norm(k), v

        def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
            _, k, v = separate(query_key_value(y))
            return k, v

        def before(o: Tensor, y: Tensor) -> Tensor:
            o = attn.norm(o)
            return o if attn.gate is None else o * attn.gate(y).sigmoid()

        return Opened(
            norm=block.norm1,
            query_key_value=query_key_value,
            key_value=key_value,
            out=Out(attn.proj, lambda x: block.drop_path1(block.ls1(attn.proj_drop(x))), before),
            feed=feed_of(block),
            dropout=attn.attn_drop.p if attn.training else 0.0,
            linear=linear,
        )


def why_not_vit(model: VisionTransformer) -> str | None:
    """Why a `VisionTransformer` cannot be a `TimmTower`, or None where it can."""
    if type(model).forward_features is not VisionTransformer.forward_features:
        return "it changes VisionTransformer's forward pass"
    if model.patch_embed.dynamic_img_pad and not model.dynamic_img_size:
        return "it pads images (dynamic_img_pad) and has no positions for it; make it with dynamic_img_size=True"
    if not model.global_pool and model.attn_pool is None:
        return "it was made without pooling; make it with global_pool='token', 'avg' or 'map'"
    return None


def feed_of(block: Any) -> Callable[[Tensor], Tensor]:
    """What a block's MLP adds to its tokens, taken apart where it is timm's plain one."""
    mlp = block.mlp
    if type(mlp) is not Mlp or is_hooked(mlp):
        return lambda x: block.drop_path2(block.ls2(mlp(block.norm2(x))))
    return stages.Mlp(
        norm=block.norm2,
        up=mlp.fc1,
        act=lambda h: mlp.norm(mlp.drop1(mlp.act(h))),
        down=mlp.fc2,
        end=lambda x: block.drop_path2(block.ls2(mlp.drop2(x))),
    )
