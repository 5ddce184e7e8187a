"""timm's `Eva`: EVA-02, DINOv3, Perception Encoder, RoPE ViTs and others, with every rotary position it builds.

Fang et al., "EVA-02", 2023; Siméoni et al., "DINOv3", 2025; Bolya et al., "Perception Encoder", 2025; Heo et al.,
"Rotary Position Embedding for Vision Transformer", ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers.attention import AttentionRope
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from vpt.towers import rotary, sizes
from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.stages import same
from vpt.towers.timm_attention import dropout, feed_of, linear, out_of, projections
from vpt.towers.timm_vit import TimmTower


class EvaTower(TimmTower):
    """timm's `Eva`. Prefix and prompts are not turned, and take no patch's place."""

    def __init__(self, model: Eva, projection: nn.Module | None = None) -> None:
        super().__init__(model, projection)
        self.placed = model.rope is not None

    def embed(self, images: Tensor) -> Tensor:
        """Patches, class token, registers, absolute positions where there are any, and the norm before block 0."""
        return self.embedded(images)[0]

    def embedded(self, images: Tensor) -> tuple[Tensor, Places | None]:
        """The same, and the turns of its patches: (n + 1, 2 d), with a row of no turn for what has no place.

        With a table of each block and head, (depth, heads, …), where frequencies are mixed; and of each image,
        (B, 1, …) or (depth, B, heads, …), where patches are dropped in training.
        """
        if not self.model.patch_embed.dynamic_img_pad:
            images = sizes.fitted(images, self)
        x, rope = self.model._pos_embed(self.model.patch_embed(images))
        x = self.model.norm_pre(x)
        if rope is None:
            return x, None
        sin, cos = rope.chunk(2, dim=-1)
        return x, Places(x.shape[1], rotary.table_of(sin, cos, self.prefix))

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """timm's block, which leaves as many tokens as there are of the prefix unturned, and is told of the others."""
        if places is None:
            return super().run(layer, x, mask)
        rope = rotary.rows(self._table(layer, places), places, x.shape[1])[..., self.prefix :, :]
        mask = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask
        found: Tensor = self.block(layer)(x, rope=rope, attn_mask=mask)
        return found

    def _table(self, layer: int, places: Places) -> Tensor:
        assert places.table is not None
        return places.table[layer] if self._mixed() else places.table

    def _mixed(self) -> bool:
        return bool(self.model.rope_mixed)

    def why_whole(self, layer: int) -> str | None:
        """A block other than timm's two, or one with hooks."""
        return why_not_eva_block(self.block(layer))

    def open(self, layer: int) -> Opened:
        """The parts of timm's two blocks."""
        return open_eva_block(self.block(layer), partial(self._table, layer) if self.placed else None)


def why_not_eva_block(block: Any) -> str | None:
    """Why a block cannot be opened by `open_eva_block`: it is not known, or has hooks."""
    if type(block) not in (EvaBlock, EvaBlockPostNorm):
        return f"{type(block).__name__} is neither timm's EvaBlock nor its EvaBlockPostNorm"
    if type(block.attn) not in (EvaAttention, AttentionRope):
        return f"{type(block.attn).__name__} is neither timm's EvaAttention nor its AttentionRope"
    return why_hooked(block, block.attn)


def open_eva_block(block: Any, table: Callable[[Places], Tensor] | None) -> Opened:
    """The parts of `EvaBlock`, or of `EvaBlockPostNorm`, whose norms stand behind attention and MLP.

    `table` picks the block's turns, and is None where nothing is turned.
    """
    attn = block.attn
    query_key_value, key_value = projections(attn)

    def turn(x: Tensor, places: Places) -> Tensor:
        assert table is not None
        return rotary.turned(x, rotary.rows(table(places), places, x.shape[1]), attn.rotate_half)

    behind = type(block) is EvaBlockPostNorm
    ends = (block.norm1, block.norm2) if behind else (block.gamma_1, block.gamma_2)
    return Opened(
        norm=same if behind else block.norm1,
        query_key_value=query_key_value,
        key_value=key_value,
        out=out_of(attn, ends[0], block.drop_path1),
        feed=feed_of(block.mlp, same if behind else block.norm2, ends[1], block.drop_path2),
        dropout=dropout(attn),
        linear=linear(attn),
        turn=None if table is None else turn,
    )


def why_not_eva(model: Eva) -> str | None:
    """Why an `Eva` cannot be an `EvaTower`, or None where it can."""
    if type(model).forward_features is not Eva.forward_features:
        return "it changes Eva's forward pass"
    if model.patch_embed.dynamic_img_pad and not model.dynamic_img_size:
        return "it pads images (dynamic_img_pad) and has no positions for it; make it with dynamic_img_size=True"
    if not model.global_pool and model.attn_pool is None:
        return "it was made without pooling; make it with global_pool='token', 'avg' or 'map'"
    return None
