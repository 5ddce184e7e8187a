"""Swin Transformers of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpt.towers import sizes
from vpt.towers.swin import SwinTower, continuous, parts_of, scored
from vpt.towers.whole import replaced
from vpt.towers.windows import Window


class TimmSwin(SwinTower):
    """timm's `SwinTransformer` and `SwinTransformerV2`."""

    def __init__(self, model: Any) -> None:
        view = replaced(model, "head.fc")
        stages = [list(stage.blocks) for stage in view.layers]
        widths = [blocks[0].norm1.normalized_shape[0] for blocks in stages]
        patch = view.patch_embed.patch_size
        super().__init__(view, stages, widths, max(patch), tuple(view.patch_embed.img_size))

    def embed(self, images: Tensor) -> Tensor:
        """Patches, and positions where there are any."""
        x: Tensor = self.model.patch_embed(sizes.fitted(images, self))
        return x

    def block(self, layer: int) -> nn.Module:
        """timm's block."""
        stage, number = self.place(layer)
        return self.model.layers[stage].blocks[number]

    def own(self, layer: int, x: Tensor) -> Tensor:
        """timm's block."""
        return self.block(layer)(x)

    def merge(self, stage: int, x: Tensor) -> Tensor:
        """`downsample` of the next stage."""
        return self.model.layers[stage + 1].downsample(x)

    def final_norm(self) -> nn.Module:
        """`norm`."""
        return self.model.norm

    def readout(self, x: Tensor) -> Tensor:
        """Norm and pooling."""
        found: Tensor = self.model.forward_head(self.model.norm(x), pre_logits=True)
        return found

    def window(self, layer: int) -> Window:
        """The parts of timm's blocks."""
        block: Any = self.block(layer)
        attn = block.attn
        second = hasattr(attn, "logit_scale")

        def project(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            qkv = attn.qkv(y)
            if second and attn.q_bias is not None:
                qkv = qkv + torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
            return scored(qkv, attn.num_heads, attn.logit_scale if second else None)

        def bias() -> Tensor:
            if not second:
                found: Tensor = attn._get_rel_pos_bias()[0]
                return found
            return continuous(attn.cpb_mlp, attn.relative_coords_table, attn.relative_position_index, attn.num_heads)

        return parts_of(
            (block.norm1, block.norm2, block.mlp, block.drop_path1, block.drop_path2),
            second=second,
            project=project,
            bias=bias,
            out=lambda o: attn.proj_drop(attn.proj(o)),
            size=tuple(block.window_size),
            shift=lambda sides: tuple(block.shift_size),
            scale=1.0 if second else attn.scale,
            dropout=attn.attn_drop.p if attn.training else 0.0,
        )
