"""What methods add to the linear stages of blocks, merged into their weights: it then costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.methods.base import Method
from vpt.towers.base import ImageTower, Opened
from vpt.towers.stages import Mlp, Out

# Of the largest value; a stage that differs by more from its merged form is not linear.
TOLERANCE = 1e-4


class Affine(nn.Module):
    """x W + b, of the shape that the stage gave.

    Args:
        function: (1, N, D) to (1, N, …), affine in each token.
        width: D.
        like: a tensor of the precision and device of the weights.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, function: Callable[[Tensor], Tensor], width: int, like: Tensor) -> None:
        super().__init__()
        eye = torch.eye(width, dtype=like.dtype, device=like.device)[None]
        zero = function(torch.zeros_like(eye[:, :1]))[0, 0]
        rows = function(eye)[0] - zero
        self.shape = rows.shape[1:]
        self.register_buffer("weight", rows.flatten(1).T.contiguous())
        self.register_buffer("bias", zero.flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, …)."""
        return F.linear(x, self.weight, self.bias).unflatten(-1, self.shape)


def merged(function: Callable[[Tensor], Tensor], width: int, like: Tensor) -> Callable[[Tensor], Tensor]:
    """A stage as one product; itself where it is not linear."""
    one = Affine(function, width, like)
    tokens = torch.randn(1, 4, width, dtype=like.dtype, generator=torch.Generator().manual_seed(0)).to(like.device)
    expected = function(tokens)
    largest = (one(tokens) - expected).abs().max()
    return one if largest <= TOLERANCE * expected.abs().max().clamp(min=1.0) else function


@torch.no_grad()
def merge(tower: ImageTower, method: Method) -> int:
    """Put one product in the place of each linear stage that a method adds to, for as long as values are as they are.

    Args:
        tower: whose blocks are changed; it stays as it is.
        method: its `image_change` is replaced.

    Returns:
        How many stages were merged.
    """
    change = method.image_change
    if change is None:
        return 0
    blocks: dict[int, Opened] = {}
    count = 0
    for layer in range(tower.depth):
        if tower.why_whole(layer) is not None:
            return 0
        opened = tower.open(layer)
        blocks[layer], merged_here = _merged_block(opened, change(layer, opened), tower)
        count += merged_here
    method.image_change = lambda layer, block: blocks[layer]
    return count


def _merged_block(before: Opened, after: Opened, tower: ImageTower) -> tuple[Opened, int]:
    like = tower.kernel
    parts: dict[str, Any] = {}
    stages: list[tuple[Any, Any]] = []

    def one(function: Any, width: int) -> Any:
        found = merged(function, width, like)
        stages.append((function, found))
        return found

    if after.query_key_value is not before.query_key_value and after.linear:

        def together(y: Tensor) -> Tensor:
            return torch.stack(list(after.projected(y)), dim=2)

        product = one(together, tower.width)
        if product is not together:
            parts |= {
                "query_key_value": lambda y: (product(y),),
                "key_value": lambda y: product(y)[:, :, 1:].unbind(2),
            }
    if isinstance(after.out, Out) and after.out is not before.out and isinstance(before.out, Out):
        heads = _width_of(before.out.project)
        if heads:
            parts["out"] = replace(after.out, project=one(after.out.project, heads))
    if isinstance(after.feed, Mlp) and after.feed is not before.feed and isinstance(before.feed, Mlp):
        up, down = _width_of(before.feed.up), _width_of(before.feed.down)
        if up and down:
            parts["feed"] = replace(after.feed, up=one(after.feed.up, up), down=one(after.feed.down, down))
    return replace(after, **parts), sum(function is not found for function, found in stages)


def _width_of(stage: Any) -> int:
    """What a linear layer takes; 0 where the stage is no such layer."""
    return stage.in_features if isinstance(stage, nn.Linear) else 0
