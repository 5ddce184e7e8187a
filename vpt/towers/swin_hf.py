"""Swin Transformers of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpt.towers import sizes
from vpt.towers.base import without
from vpt.towers.swin import SwinTower, continuous, parts_of, same, scored
from vpt.towers.windows import Sides, Window


class HfSwin(SwinTower):
    """transformers' `SwinModel` and `Swinv2Model`."""

    def __init__(self, model: Any, size: Sides) -> None:
        view = without(model, "pooler")
        stages = [list(stage.blocks) for stage in view.encoder.layers]
        widths = [blocks[0].layernorm_before.normalized_shape[0] for blocks in stages]
        patch = model.config.patch_size
        super().__init__(view, stages, widths, patch if isinstance(patch, int) else max(patch), size)

    def embed(self, images: Tensor) -> Tensor:
        """Patches, and positions where there are any."""
        x, sides = self.model.embeddings(sizes.fitted(images, self))
        return x.unflatten(1, sides)

    def block(self, layer: int) -> nn.Module:
        """transformers' layer."""
        stage, number = self.place(layer)
        return self.model.encoder.layers[stage].blocks[number]

    def own(self, layer: int, x: Tensor) -> Tensor:
        """transformers' layer."""
        sides = (x.shape[1], x.shape[2])
        return self.block(layer)(x.flatten(1, 2), sides)[0].unflatten(1, sides)

    def merge(self, stage: int, x: Tensor) -> Tensor:
        """`downsample` of the stage."""
        sides = (x.shape[1], x.shape[2])
        merged = self.model.encoder.layers[stage].downsample(x.flatten(1, 2), sides)
        return merged.unflatten(1, tuple((side + 1) // 2 for side in sides))

    def final_norm(self) -> nn.Module:
        """`layernorm`."""
        return self.model.layernorm

    def readout(self, x: Tensor) -> Tensor:
        """Norm and the mean over all places, as the pooler has it."""
        return nn.functional.adaptive_avg_pool1d(self.model.layernorm(x.flatten(1, 2)).transpose(1, 2), 1).flatten(1)

    def window(self, layer: int) -> Window:
        """The parts of transformers' layers."""
        block: Any = self.block(layer)
        second = hasattr(block.attention, "self")
        attn = block.attention.self if second else block.attention
        names = ("query", "key", "value") if second else ("q_proj", "k_proj", "v_proj")
        heads = attn.num_attention_heads
        size, shift = block.window_size, block.shift_size

        def project(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            qkv = torch.cat([getattr(attn, name)(y) for name in names], dim=-1)
            return scored(qkv, heads, attn.logit_scale if second else None)

        def bias() -> Tensor:
            if not second:
                found: Tensor = attn.relative_position_bias()[0]
                return found
            table = attn.continuous_position_bias_mlp
            return continuous(table, attn.relative_coords_table, attn.relative_position_index, heads)

        def mlp(x: Tensor) -> Tensor:
            return block.output(block.intermediate(x)) if second else block.dropout(block.mlp(x))

        output = block.attention.output if second else None
        rate = attn.dropout.p if second else attn.attention_dropout
        return parts_of(
            # V1 drops no path of its MLP.
            (block.layernorm_before, block.layernorm_after, mlp, block.drop_path, block.drop_path if second else same),
            second=second,
            project=project,
            bias=bias,
            out=lambda o: output(o, o) if output is not None else block.dropout(attn.o_proj(o)),
            size=(int(size), int(size)),
            # V1 finds out in its forward pass that a window is all of the image.
            shift=lambda sides: (0, 0) if not second and min(sides) <= size else (int(shift), int(shift)),
            scale=1.0 if second else attn.scaling,
            dropout=rate if attn.training else 0.0,
            pads_first=True,
        )
