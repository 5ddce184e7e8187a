"""What is linear in a method's part of the blocks, merged with the weights of the blocks for inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.methods.base import Method
from vpt.methods.parts import Change
from vpt.towers.base import ImageTower
from vpt.towers.opened import Opened
from vpt.towers.stages import Mlp, Out

Linear = Callable[[Tensor], Tensor]

LARGE = 1024.0


class Merged:
    """Blocks with the weights that they have together with what is linear in a method's changes, and other changes.

    Each stage of a block that a linear change touches is one product with one matrix: what the stage gives for each
    unit vector. That costs what the stage costs without the change. The backbone's own weights stay as they are.

    Attributes:
        stages: of each block, the stages that were merged, by name.
        others: changes that are not linear, which come after.
    """

    def __init__(self, stages: Sequence[dict[str, Any]], others: Sequence[Change]) -> None:
        self.stages = stages
        self.others = tuple(others)

    def __call__(self, layer: int, block: Opened) -> Opened:
        """Block `layer`, opened, with all that is learned in it."""
        block = _with(block, self.stages[layer])
        for change in self.others:
            block = change.change(layer, block)
        return block


@torch.no_grad()
def merged(tower: ImageTower, method: Method) -> Callable[[int, Any], Any] | None:
    """A method's part in the blocks of the image encoder, in evaluation mode, as `Tower.advance` takes it."""
    changes = method.changes("image")
    linear = [change for change in changes if change.linear]
    if not linear:
        return method.image_change
    stages = []
    for layer in range(tower.depth):
        before = block = tower.open(layer)
        for change in linear:
            block = change.change(layer, block)
        stages.append(_stages(before, block, tower.kernel.new_zeros(1, 1, tower.width_at(layer))))
    return Merged(stages, [change for change in changes if not change.linear])


def _stages(before: Opened, after: Opened, zero: Tensor) -> dict[str, Any]:
    """The stages in which two views of a block differ, each as one product; `zero` is a token of it, (1, 1, D)."""
    found: dict[str, Any] = {}
    if after.query_key_value is not before.query_key_value:
        found["query_key_value"] = _projections(after.query_key_value, zero)
        found["key_value"] = _projections(after.key_value, zero)
    if isinstance(after.out, Out) and isinstance(before.out, Out) and after.out.project is not before.out.project:
        inner = after.key_value(zero)[1].flatten(-2)
        found["project"] = _product(after.out.project, after.out.given(inner, zero))
    if isinstance(after.feed, Mlp) and isinstance(before.feed, Mlp):
        if after.feed.up is not before.feed.up:
            found["up"] = _product(after.feed.up, zero)
        if after.feed.down is not before.feed.down:
            found["down"] = _product(after.feed.down, after.feed.act(after.feed.up(zero)))
    return found


def _with(block: Opened, stages: dict[str, Any]) -> Opened:
    attention = {name: stages[name] for name in ("query_key_value", "key_value") if name in stages}
    block = replace(block, **attention)
    if "project" in stages and isinstance(block.out, Out):
        block = replace(block, out=replace(block.out, project=stages["project"]))
    layers = {name: stages[name] for name in ("up", "down") if name in stages}
    if layers and isinstance(block.feed, Mlp):
        block = replace(block, feed=replace(block.feed, **layers))
    return block


def _matrix(function: Linear, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,) of an affine function of tokens (1, 1, in)."""
    zero = torch.zeros_like(like)
    units = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)[None]
    bias = function(zero)
    # In half precision a weight is lost beside a larger bias, and not where it is LARGE times itself.
    return ((function(LARGE * units) - bias) / LARGE)[0].T.contiguous(), bias[0, 0]


def _product(function: Linear, like: Tensor) -> Linear:
    weight, bias = _matrix(function, like)
    return lambda x: F.linear(x, weight, bias)


def _projections(
    function: Callable[[Tensor], Sequence[Tensor]], zero: Tensor
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Several projections to heads, (B, N, D) to (B, N, …) each, as one product."""
    shapes = [part.shape[2:] for part in function(zero)]
    weight, bias = _matrix(lambda y: torch.cat([part.flatten(2) for part in function(y)], dim=-1), zero)
    sizes = [shape.numel() for shape in shapes]

    def project(y: Tensor) -> tuple[Tensor, ...]:
        parts = F.linear(y, weight, bias).split(sizes, dim=-1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True))

    return project
