"""Swin Transformers, V1 and V2, of timm, torchvision and transformers: prompts enter their windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpt.towers import sizes
from vpt.towers.attention import Attended
from vpt.towers.base import why_hooked
from vpt.towers.hierarchical import HierarchicalTower
from vpt.towers.windows import Sides, Window, advance_both, attend_in_windows, cosine


class SwinTower(HierarchicalTower):
    """A Swin Transformer: blocks attend in windows, and prompts stand in each of them.

    Args:
        model: of the library, without its classifier.
        blocks: for each stage its blocks.
        widths: D of each stage.
        patch: side of a patch in pixels.
        size: height and width of the images in pixels; None for any.
    """

    def __init__(
        self, model: Any, blocks: list[list[nn.Module]], widths: list[int], patch: int, size: Sides | None
    ) -> None:
        super().__init__([len(group) for group in blocks], widths)
        self.channels = sizes.channels_of(model)
        self.model = model
        self.patch_size = patch
        self.image_size = size

    @abstractmethod
    def window(self, layer: int) -> Window:
        """Block `layer` taken apart."""

    def beside(self, layer: int, x: Tensor, prompts: Tensor | Attended, *, both: bool) -> tuple[Tensor, Tensor | None]:
        """Prompts stand in each window, and the tokens of the window attend to them."""
        block = self.window(layer)
        if self.recompute == "mlp" and torch.is_grad_enabled():
            block = replace(block, feed=partial(checkpoint, block.feed, use_reentrant=False))
        if both and isinstance(prompts, Tensor):
            return advance_both(block, x, prompts)
        return attend_in_windows(block, x, prompts), None

    def why_whole(self, layer: int) -> str | None:
        """A block with hooks, which would not see every token."""
        block: Any = self.block(layer)
        return why_hooked(block, getattr(block, "attn", None) or block.attention)

    def why_unchanged(self, layer: int) -> str:
        """Nothing is added to attention in windows."""
        return "it attends in windows, and nothing is added to their projections"

    def attended(self, layer: int, context: Tensor, *rest: Any) -> Attended:
        """Keys and values of prompts (1 or B, P, D)."""
        return self.window(layer).key_value(context)

    def path(self, layer: int) -> str:
        """That prompts enter windows."""
        return (
            f"opened: a context costs its keys and values, in windows of {'×'.join(map(str, self.window(layer).size))}"
        )


def same(x: Tensor) -> Tensor:
    """`x` itself."""
    return x


def parts_of(parts: tuple[Callable[[Tensor], Tensor], ...], *, second: bool, **own: Any) -> Window:
    """A block of `parts`: both norms, MLP, and both drop paths; `second` is Swin V2, which norms what is added."""
    norm1, norm2, mlp, drop1, drop2 = parts
    if second:
        return Window(norm=same, after=lambda a: drop1(norm1(a)), feed=lambda x: drop2(norm2(mlp(x))), **own)
    return Window(norm=norm1, after=drop1, feed=lambda x: drop2(mlp(norm2(x))), **own)


def scored(qkv: Tensor, heads: int, logit_scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, N, heads, d) of a product (B, N, 3 · heads · d); by cosine where scaled so."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(2)
    return (q, k, v) if logit_scale is None else (*cosine(q, k, logit_scale), v)


def continuous(mlp: nn.Module, coordinates: Tensor, index: Tensor, heads: int) -> Tensor:
    """Swin V2's bias of relative positions, (heads, A, A), which an MLP makes of log-spaced coordinates."""
    table = mlp(coordinates).view(-1, heads)
    places = index.shape[-1]
    return 16 * torch.sigmoid(table[index.view(-1)].view(places, places, heads).permute(2, 0, 1))
