"""Swin Transformers, V1 and V2, of timm, torchvision and transformers: prompts enter their windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpt.errors import VptError
from vpt.towers import sizes
from vpt.towers.attention import Attended
from vpt.towers.base import ImageTower, Opened, why_hooked
from vpt.towers.windows import Sides, Window, advance_both, attend_in_windows, cosine


class SwinTower(ImageTower):
    """An encoder of stages, each wider than the one before: tokens lie in a grid, (B, H, W, D).

    Patch merging between two stages makes one token of four. Prompts are kept out of it (Jia et al., ECCV 2022, section
    3.2): those of a stage end with it.

    Args:
        model: of the library, without its classifier.
        blocks: for each stage its blocks.
        size: height and width of the images in pixels; None for any.
    """

    prefix = 0
    read = None

    def __init__(
        self, model: Any, blocks: list[list[nn.Module]], widths: list[int], patch: int, size: Sides | None
    ) -> None:
        super().__init__()
        self.channels = sizes.channels_of(model)
        self.model = model
        self.patch_size = patch
        self.image_size = size
        self.num_features = widths[-1]
        self.width = widths[0]
        self.depth = sum(map(len, blocks))
        self._stages = [stage for stage, group in enumerate(blocks) for _ in group]
        self._firsts = [self._stages.index(stage) for stage in range(len(blocks))]
        self._widths = widths

    def width_at(self, layer: int) -> int:
        """D of the stage that block `layer` is in."""
        return self._widths[self._stages[min(layer, self.depth - 1)]]

    def ends_stage(self, layer: int) -> bool:
        """Whether tokens are merged behind block `layer`."""
        return layer + 1 < self.depth and self._stages[layer + 1] != self._stages[layer]

    def place(self, layer: int) -> tuple[int, int]:
        """Stage of block `layer`, and its number there."""
        stage = self._stages[layer]
        return stage, layer - self._firsts[stage]

    @abstractmethod
    def window(self, layer: int) -> Window:
        """Block `layer` taken apart."""

    @abstractmethod
    def merge(self, stage: int, x: Tensor) -> Tensor:
        """Tokens behind a stage that is not the last, (B, H, W, D), to those of the next."""

    @abstractmethod
    def own(self, layer: int, x: Tensor) -> Tensor:
        """The library's own block, (B, H, W, D) to the same."""

    def advance_grid(
        self, layer: int, x: Tensor, prompts: Tensor | Attended | None, *, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Block `layer` on tokens (B, H, W, D), and patch merging where it ends a stage.

        Args:
            layer: 0 to depth - 1.
            x: the image's tokens.
            prompts: (1 or B, P, D), or what the block makes of them; the tokens of each window attend to them.
            both: the prompts are advanced too.

        Returns:
            The tokens, and the prompts where they were advanced and the stage goes on.
        """
        if self.recompute == "block" and torch.is_grad_enabled():
            kept: tuple[Tensor, Tensor | None] = checkpoint(
                self._advance_grid, layer, x, prompts, both, use_reentrant=False
            )
            return kept
        return self._advance_grid(layer, x, prompts, both)

    def _advance_grid(
        self, layer: int, x: Tensor, prompts: Tensor | Attended | None, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        carried: Tensor | None = None
        if prompts is None:
            x = self.own(layer, x)
        else:
            block = self.window(layer)
            if self.recompute == "mlp" and torch.is_grad_enabled():
                block = replace(block, feed=partial(checkpoint, block.feed, use_reentrant=False))
            if both and isinstance(prompts, Tensor):
                x, carried = advance_both(block, x, prompts)
            else:
                x = attend_in_windows(block, x, prompts)
        return (self.merge(self._stages[layer], x), None) if self.ends_stage(layer) else (x, carried)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, F), with nothing entered."""
        x = self.embed(images)
        for layer in range(self.depth):
            x, _ = self.advance_grid(layer, x, None, both=False)
        return self.readout(x)

    def why_whole(self, layer: int) -> str | None:
        """A block with hooks, which would not see every token."""
        block: Any = self.block(layer)
        return why_hooked(block, getattr(block, "attn", None) or block.attention)

    def why_unopened(self, layer: int) -> str:
        """As `why_unchanged`."""
        return self.why_unchanged(layer)

    def why_unchanged(self, layer: int) -> str:
        """Nothing is added to attention in windows."""
        return "it attends in windows, and nothing is added to their projections"

    def open(self, layer: int) -> Opened:
        """Its blocks have windows and no one sequence of tokens.

        Raises:
            VptError: always.
        """
        self._refuse()

    def advance(self, *args: Any, **options: Any) -> Tensor:
        """Tokens of windows are advanced by `advance_grid`.

        Raises:
            VptError: always.
        """
        self._refuse()

    def attended(self, layer: int, context: Tensor, *rest: Any) -> Attended:
        """Keys and values of prompts (1 or B, P, D)."""
        return self.window(layer).key_value(context)

    def path(self, layer: int) -> str:
        """That prompts enter windows."""
        return (
            f"opened: a context costs its keys and values, in windows of {'×'.join(map(str, self.window(layer).size))}"
        )

    def _refuse(self) -> NoReturn:
        raise VptError(f"{type(self).__name__} attends in windows: its tokens are advanced by advance_grid.")


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
