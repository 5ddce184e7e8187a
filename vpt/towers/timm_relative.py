"""timm's Vision Transformers with relative positions: BEiT, and those of its `vision_transformer_relpos`.

Bao et al., "BEiT", ICLR 2022. Scores of two patches get a learned number by how far apart they stand; prompts have no
place, and their scores get none.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.vision_transformer_relpos import (
    RelPosAttention,
    RelPosBlock,
    ResPostRelPosBlock,
    VisionTransformerRelPos,
)
from torch import Tensor

from vpt.towers import sizes
from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.stages import same
from vpt.towers.timm_attention import dropout, feed_of, linear, out_of, projections
from vpt.towers.timm_vit import TimmTower


class RelativeTower(TimmTower):
    """A `Beit` or a `VisionTransformerRelPos`, with relative positions of each block, shared by all, or none."""

    placed = True

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, and BEiT's absolute positions where it has them."""
        x = self.model.patch_embed(sizes.fitted(images, self))
        if self.model.cls_token is not None:
            x = torch.cat((self.model.cls_token.expand(len(x), -1, -1), x), dim=1)
        if getattr(self.model, "pos_embed", None) is not None:
            x = x + self.model.pos_embed
        return self.model.pos_drop(x) if hasattr(self.model, "pos_drop") else x

    def embedded(self, images: Tensor) -> tuple[Tensor, Places | None]:
        """The same, and biases that all blocks share, (heads, n, n), where they do."""
        x = self.embed(images)
        if isinstance(self.model, Beit):
            shared = None if self.model.rel_pos_bias is None else self.model.rel_pos_bias()
        else:
            shared = None if self.model.shared_rel_pos is None else self.model.shared_rel_pos.get_bias()[0]
        return x, Places(x.shape[1], shared)

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """Nothing: there is no norm before block 0."""
        return tokens

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """timm's block; given all biases in place of its own where there are tokens without a place."""
        block: Any = self.block(layer)
        told = "shared_rel_pos_bias" if isinstance(self.model, Beit) else "shared_rel_pos"
        assert places is not None
        if mask is None and places.index is None and x.shape[1] == places.count:
            shared = places.table
            # As timm's own forward pass gives it, with a place for the batch or without one.
            shared = shared[None] if shared is not None and not isinstance(self.model, Beit) else shared
            own: Tensor = block(x, **{told: shared})
            return own
        bias = self._bias(layer, places, x.shape[1])
        if mask is not None:
            mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
            bias = mask if bias is None else bias + mask
        found: Tensor = _without_bias(block)(x, **{told: bias})
        return found

    def _bias(self, layer: int, places: Places, length: int) -> Tensor | None:
        attn: Any = self.block(layer).attn
        shared = places.table
        if isinstance(attn, BeitAttention):
            own = None if attn.relative_position_bias_table is None else attn._get_rel_pos_bias()[0]
            bias = own if shared is None else shared if own is None else own + shared
        else:
            bias = shared if attn.rel_pos is None else attn.rel_pos.get_bias()[0]
        return None if bias is None else places.spread(bias, length)

    def why_whole(self, layer: int) -> str | None:
        """A block other than timm's, or one with hooks."""
        block: Any = self.block(layer)
        if type(block) not in (BeitBlock, RelPosBlock, ResPostRelPosBlock):
            return f"{type(block).__name__} is no block of timm's BEiT or relative positions"
        if type(block.attn) not in (BeitAttention, RelPosAttention):
            return f"{type(block.attn).__name__} is no attention of timm's BEiT or relative positions"
        return why_hooked(block, block.attn)

    def open(self, layer: int) -> Opened:
        """The parts of a block, of which `ResPostRelPosBlock` has its norms behind attention and MLP."""
        block: Any = self.block(layer)
        attn = block.attn
        query_key_value, key_value = projections(attn)
        behind, (first, second) = type(block) is ResPostRelPosBlock, _ends(block)

        def bias(places: Places, length: int) -> Tensor:
            found = self._bias(layer, places, length)
            return next(self.parameters()).new_zeros(1, length, length) if found is None else found

        return Opened(
            norm=same if behind else block.norm1,
            query_key_value=query_key_value,
            key_value=key_value,
            out=out_of(attn, first, block.drop_path1),
            feed=feed_of(block.mlp, same if behind else block.norm2, second, block.drop_path2),
            dropout=dropout(attn),
            linear=linear(attn),
            bias=bias,
        )


def _ends(block: Any) -> tuple[Any, Any]:
    """What attention and MLP end in: norms that stand behind them, or layer scales, which are tensors in BEiT."""
    if type(block) is ResPostRelPosBlock:
        return block.norm1, block.norm2
    return (block.gamma_1, block.gamma_2) if isinstance(block, BeitBlock) else (block.ls1, block.ls2)


def _without_bias(block: Any) -> Any:
    """A second view of a block, whose attention adds what it is given and nothing of its own."""
    attn = copy.copy(block.attn)
    attn._parameters = {**attn._parameters, "relative_position_bias_table": None}
    attn._modules = {**attn._modules, "rel_pos": None}
    view = copy.copy(block)
    view._modules = {**block._modules, "attn": attn}
    return view


def why_not_relative(model: Any) -> str | None:
    """Why a `Beit` or a `VisionTransformerRelPos` cannot be a `RelativeTower`, or None where it can."""
    kind = Beit if isinstance(model, Beit) else VisionTransformerRelPos
    if type(model).forward_features is not kind.forward_features:
        return f"it changes {kind.__name__}'s forward pass"
    if not model.global_pool:
        return "it was made without pooling; make it with global_pool='token' or 'avg'"
    return None
