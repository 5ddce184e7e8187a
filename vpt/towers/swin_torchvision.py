"""Swin Transformers of torchvision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpt.towers import sizes
from vpt.towers.swin import SwinTower, parts_of, scored
from vpt.towers.whole import without_classifier
from vpt.towers.windows import Sides, Window


class TorchvisionSwin(SwinTower):
    """torchvision's `SwinTransformer`, of both versions, which takes images of any size."""

    def __init__(self, model: Any) -> None:
        view = without_classifier(model, "head")
        stages = [list(part) for part in list(view.features)[1::2]]
        widths = [blocks[0].norm1.normalized_shape[0] for blocks in stages]
        super().__init__(view, stages, widths, max(view.features[0][0].kernel_size), None)

    def embed(self, images: Tensor) -> Tensor:
        """Patches."""
        x: Tensor = self.model.features[0](sizes.fitted(images, self))
        return x

    def block(self, layer: int) -> nn.Module:
        """torchvision's block."""
        stage, number = self.place(layer)
        return self.model.features[1 + 2 * stage][number]

    def own(self, layer: int, x: Tensor) -> Tensor:
        """torchvision's block."""
        return self.block(layer)(x)

    def merge(self, stage: int, x: Tensor) -> Tensor:
        """`PatchMerging`."""
        return self.model.features[2 + 2 * stage](x)

    def final_norm(self) -> nn.Module:
        """`norm`."""
        return self.model.norm

    def readout(self, x: Tensor) -> Tensor:
        """Norm and pooling."""
        model = self.model
        return model.flatten(model.avgpool(model.permute(model.norm(x))))

    def window(self, layer: int) -> Window:
        """The parts of torchvision's blocks."""
        block: Any = self.block(layer)
        attn = block.attn
        second = hasattr(attn, "logit_scale")

        def project(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            bias = attn.qkv.bias
            if second and bias is not None:
                # The library takes no notice of a bias of keys.
                used = torch.ones_like(bias).unflatten(0, (3, -1))
                used[1] = 0
                bias = bias * used.flatten()
            return scored(
                nn.functional.linear(y, attn.qkv.weight, bias), attn.num_heads, getattr(attn, "logit_scale", None)
            )

        size = tuple(attn.window_size)

        def shift(sides: Sides) -> Sides:
            # Where one window is all of a side nothing is shifted along it.
            high, wide = (0 if w >= -(-g // w) * w else s for g, w, s in zip(sides, size, attn.shift_size, strict=True))
            return high, wide

        drop = block.stochastic_depth
        return parts_of(
            (block.norm1, block.norm2, block.mlp, drop, drop),
            second=second,
            project=project,
            bias=lambda: attn.get_relative_position_bias()[0],
            out=lambda o: nn.functional.dropout(attn.proj(o), attn.dropout, attn.training),
            size=size,
            shift=shift,
            scale=1.0 if second else (attn.qkv.in_features // attn.num_heads) ** -0.5,
            dropout=attn.attention_dropout if attn.training else 0.0,
            pads_first=True,
        )
