"""Encoders of stages: tokens lie in a grid that shrinks between two of them, and each stage has a width of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn, TypeGuard

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.towers.attention import Attended
from vpt.towers.base import ImageTower
from vpt.towers.opened import Opened


class HierarchicalTower(ImageTower):
    """An encoder whose tokens lie in a grid, (B, H, W, D), of which merging between two stages makes fewer and wider.

    Prompts are kept out of the merging: those of a stage end with it (Jia et al., ECCV 2022, section 3.2). A subclass
    says what a block does with prompts (`beside`) and without (`own`), how tokens are merged (`merge`), and how they
    begin (`embed`, images to (B, H, W, D)) and end (`readout`).

    Args:
        depths: blocks of each stage.
        widths: D of each stage.
    """

    hierarchical = True
    prefix = 0
    read = None

    def __init__(self, depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.depth = sum(depths)
        self.width, self.num_features = widths[0], widths[-1]
        self._stages = [stage for stage, count in enumerate(depths) for _ in range(count)]
        self._firsts = [0, *accumulate(depths)][:-1]
        self._widths = list(widths)

    @abstractmethod
    def own(self, layer: int, x: Tensor) -> Tensor:
        """The library's own block, (B, H, W, D) to the same."""

    @abstractmethod
    def beside(self, layer: int, x: Tensor, prompts: Tensor | Attended, *, both: bool) -> tuple[Tensor, Tensor | None]:
        """Block `layer` on tokens (B, H, W, D), which attend to prompts too.

        Args:
            layer: 0 to depth - 1.
            x: the image's tokens.
            prompts: (1 or B, P, D), or what `attended` made of them.
            both: the prompts are advanced too.

        Returns:
            The tokens, and the prompts (B, P, D) where they were advanced. The tokens do not depend on `both`.
        """

    @abstractmethod
    def merge(self, stage: int, x: Tensor) -> Tensor:
        """Tokens behind a stage that is not the last, (B, H, W, D), to those of the next."""

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

    def advance_grid(
        self, layer: int, x: Tensor, prompts: Tensor | Attended | None, *, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Block `layer` on tokens (B, H, W, D), and the merging where it ends a stage.

        Args:
            layer: 0 to depth - 1.
            x: the image's tokens.
            prompts: (1 or B, P, D), or what the block makes of them, or none; the image's tokens attend to them.
            both: the prompts are advanced too.

        Returns:
            The tokens, and the prompts where they were advanced and the stage goes on.
        """
        if self.recompute == "block" and torch.is_grad_enabled():
            kept: tuple[Tensor, Tensor | None] = self.computed_again(
                layer, None, self._advance_grid, layer, x, prompts, both
            )
            return kept
        return self._advance_grid(layer, x, prompts, both)

    def _advance_grid(
        self, layer: int, x: Tensor, prompts: Tensor | Attended | None, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        x, carried = (self.own(layer, x), None) if prompts is None else self.beside(layer, x, prompts, both=both)
        return (self.merge(self._stages[layer], x), None) if self.ends_stage(layer) else (x, carried)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, F), with nothing entered."""
        x = self.embed(images)
        for layer in range(self.depth):
            x, _ = self.advance_grid(layer, x, None, both=False)
        return self.readout(x)

    def why_whole(self, layer: int) -> str | None:
        """Why no prompt can stand beside the tokens of block `layer`, or None where it can."""
        return None

    def why_unopened(self, layer: int) -> str | None:
        """As `why_unchanged`."""
        return self.why_unchanged(layer)

    def why_unchanged(self, layer: int) -> str:
        """Nothing is added inside the blocks of stages."""
        return "its tokens lie in stages, and nothing is added to their projections"

    def attended(self, layer: int, context: Tensor, *rest: Any) -> Tensor | Attended:
        """What block `layer` makes of prompts (1 or B, P, D) whatever the image is; themselves by default."""
        return context

    def path(self, layer: int) -> str:
        """That prompts stand beside the tokens of their stage."""
        why = self.why_whole(layer)
        return "opened: prompts stand beside the tokens of their stage" if why is None else f"not entered: {why}"

    def open(self, layer: int) -> Opened:
        """Its tokens are no one sequence.

        Raises:
            VptError: always.
        """
        self._refuse()

    def advance(self, *args: Any, **options: Any) -> Tensor:
        """Tokens of a grid are advanced by `advance_grid`.

        Raises:
            VptError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise VptError(f"{type(self).__name__} has tokens in stages: they are advanced by advance_grid.")


def in_stages(tower: ImageTower | nn.Module) -> TypeGuard[HierarchicalTower]:
    """Whether an encoder's tokens lie in a grid of stages, and are advanced by `advance_grid`."""
    return bool(getattr(tower, "hierarchical", False))
