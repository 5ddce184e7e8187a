"""timm's `VisionTransformer` family, opened (Wightman, https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vpt.towers import sizes
from vpt.towers.base import ImageTower, without
from vpt.towers.opened import Opened
from vpt.towers.picking import first_token
from vpt.towers.timm_blocks import open_block, why_not_block


class TimmTower(ImageTower):
    """timm's `VisionTransformer` family: any pooling, prefix tokens, patch and image size.

    The classifier is left out; the weights are shared with `model`, which itself stays as it is.

    Args:
        model: a `VisionTransformer`.
        projection: of what is read, as open_clip adds it to timm's models.
    """

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.channels = sizes.channels_of(model)
        self.model = without(model)
        self.model.reset_classifier(0)
        self.width = model.embed_dim
        self.depth = len(model.blocks)
        self.projection = projection
        self.prefix = model.num_prefix_tokens
        # The distilled model reads class and distillation token, the others that pool by token the first.
        reads_tokens = model.global_pool == "token" and getattr(model, "attn_pool", None) is None
        self.read = (2 if isinstance(model, VisionTransformerDistilled) else 1) if reads_tokens else None
        self.patch_size = model.patch_embed.feat_ratio(as_scalar=True)
        any_size = getattr(model, "dynamic_img_size", False)
        self.image_size = None if any_size else tuple(model.patch_embed.img_size)
        self.num_features = self._count(model.num_features)

    def _count(self, features: int) -> int:
        """Features of an image: the model's, or those of the projection."""
        if self.projection is None:
            return features
        with torch.no_grad():
            token = next(self.model.parameters()).new_zeros(1, self.prefix + 1, self.width)
            return self.readout(token).shape[-1]

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
        x = self.model.norm(x)
        if self.read == 1 and x.shape[1] == 1:
            # What `forward_head` does with the token that it picks.
            features = self.model.head_drop(self.model.fc_norm(first_token(x)))
        else:
            features = self.model.forward_head(x, pre_logits=True)
        return features if self.projection is None else self.projection(features)

    def final_norm(self) -> nn.Module:
        """`norm`, an identity in models that norm after pooling."""
        return self.model.norm

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """`norm_pre`."""
        return self.model.norm_pre(tokens)

    def why_whole(self, layer: int) -> str | None:
        """A block that is not known, or one with hooks."""
        return why_not_block(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of timm's blocks."""
        return open_block(self.block(layer))


def why_not_vit(model: VisionTransformer) -> str | None:
    """Why a `VisionTransformer` cannot be a `TimmTower`, or None where it can."""
    if type(model).forward_features is not VisionTransformer.forward_features:
        return "it changes VisionTransformer's forward pass"
    if model.patch_embed.dynamic_img_pad and not model.dynamic_img_size:
        return "it pads images (dynamic_img_pad) and has no positions for it; make it with dynamic_img_size=True"
    if not model.global_pool and model.attn_pool is None:
        return "it was made without pooling; make it with global_pool='token', 'avg' or 'map'"
    return None
