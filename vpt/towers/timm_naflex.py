"""timm's `NaFlexVit` with images of any size and aspect, each batch of one size (Dehghani et al., "NaViT", 2023)."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.eva import EvaBlock
from timm.models.naflexvit import NaFlexVit
from torch import Tensor, nn

from vpt.towers import rotary, sizes
from vpt.towers.base import ImageTower, without
from vpt.towers.opened import Opened
from vpt.towers.places import Places
from vpt.towers.timm_blocks import open_block, why_not_block
from vpt.towers.timm_eva import EvaTower, open_eva_block, why_not_eva_block


class NaFlexTower(EvaTower):
    """timm's `NaFlexVit`, with blocks of `VisionTransformer` or `Eva`; positions are resampled to any size."""

    def __init__(self, model: Any, projection: nn.Module | None = None) -> None:
        ImageTower.__init__(self)
        self.channels = sizes.channels_of(model.embeds.proj)
        self.model = without(model)
        self.model.reset_classifier(0)
        self.width = model.embed_dim
        self.depth = len(model.blocks)
        self.projection = projection
        self.prefix = model.num_prefix_tokens
        self.read = 1 if model.global_pool == "token" and model.attn_pool is None else None
        self.patch_size = max(model.embeds.patch_size)
        self.image_size = None
        self.placed = model.rope is not None
        self.num_features = self._count(model.num_features)

    def embedded(self, images: Tensor) -> tuple[Tensor, Places | None]:
        """Patches and prefix with their positions, and the turns of patches where there are any."""
        if not self.model.embeds.dynamic_img_pad:
            images = sizes.fitted(images, self)
        found = self.model._forward_embeds(images, None, None, None)
        x, rope = found["patches"], found["rope_embeds"]
        if rope is None:
            return x, None
        sin, cos = rope.chunk(2, dim=-1)
        return x, Places(x.shape[1], rotary.table_of(sin, cos, self.prefix))

    def _mixed(self) -> bool:
        return bool(self.model.rope_is_mixed)

    def why_whole(self, layer: int) -> str | None:
        """A block that is not known, or one with hooks."""
        block = self.block(layer)
        return why_not_eva_block(block) if isinstance(block, EvaBlock) else why_not_block(block)

    def open(self, layer: int) -> Opened:
        """The parts of timm's blocks."""
        block = self.block(layer)
        if not isinstance(block, EvaBlock):
            return open_block(block)
        return open_eva_block(block, partial(self._table, layer) if self.placed else None)


def why_not_naflex(model: NaFlexVit) -> str | None:
    """Why a `NaFlexVit` cannot be a `NaFlexTower`, or None where it can."""
    if type(model).forward_features is not NaFlexVit.forward_features:
        return "it changes NaFlexVit's forward pass"
    if not model.global_pool and model.attn_pool is None:
        return "it was made without pooling; make it with global_pool='token', 'avg' or 'map'"
    if model.rope_is_mixed and model.patch_drop is not None:
        return "it drops patches of mixed rotary positions; make it with patch_drop_rate=0"
    return None
