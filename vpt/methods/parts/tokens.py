"""Learned tokens of the image encoder, before any of its blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import ImagePrompts
from vpt.methods.parts.clusters import pooled_clusters
from vpt.methods.parts.encoders import Encoder

# Beginnings that are made of training images.
OF_IMAGES = ("patches", "mean", "max")


class Tokens(ImagePrompts):
    """New tokens before each of some blocks (Jia et al., ECCV 2022, section 3.2, equations 4 to 8).

    Args:
        tower: the encoder that is prompted.
        layers: the blocks before which prompts enter.
        num_tokens: prompts P a block.
        shared: one set of prompts for all blocks.
        dropout: of prompt values, a mask for each image.
        project: prompts of this size, brought to the backbone's width by one linear layer.
        init: "uniform" as in the paper, "normal" for N(0, 0.02), "patches" for patch tokens of training images, or
            "mean" or "max" of the clusters that such tokens make.
        before_norm: prompts of block 0 go through CLIP's norm before the blocks.
        behind: prompts stand behind the patches.

    Attributes:
        values: (blocks, P, D), or (1, P, D) where they are shared; a tensor for each block, (P, D), where they differ
            in width.

    Raises:
        VptError: an option out of its range.
    """

    def __init__(
        self,
        tower: Encoder,
        layers: Sequence[int],
        *,
        num_tokens: int,
        shared: bool = False,
        dropout: float = 0.0,
        project: int | None = None,
        init: Literal["uniform", "normal", "patches", "mean", "max"] = "uniform",
        before_norm: bool = False,
        behind: bool = False,
    ) -> None:
        super().__init__(tower)
        if num_tokens < 1:
            raise VptError(f"num_tokens={num_tokens} leaves no prompt to learn: give 1 or more.")
        if not 0 <= dropout < 1:
            raise VptError(f"dropout={dropout} must be at least 0 and below 1.")
        if project is not None and project < 1:
            raise VptError(f"project={project} leaves nothing to project from: give 1 or more, or leave it out.")
        if init in OF_IMAGES and project:
            raise VptError(f"init={init!r} sets prompts of the backbone's width: leave project out, or init='uniform'.")
        self.layers = tuple(layers)
        self.enters = frozenset(layers)
        self.before_norm, self.behind = before_norm, behind
        self.shared = shared
        self.init = init
        self.needs_images = init in OF_IMAGES
        self.dropout = nn.Dropout(dropout)
        widths = [tower.width_at(layer) for layer in self.layers]
        if len(set(widths)) > 1 and (shared or project):
            raise VptError(f"blocks of this backbone have widths {widths}: leave shared and project out.")

        def drawn(rows: int, size: int) -> Tensor:
            # Section A: the bound of Xavier's uniform initialisation for the patch embedding.
            bound = math.sqrt(6 / (3 * tower.patch_size**2 + size))
            values = torch.empty(rows, num_tokens, size)
            return values.normal_(std=0.02) if init == "normal" else values.uniform_(-bound, bound)

        # A row for each block; of an encoder of stages, which get wider, a tensor for each block.
        self.values: nn.Parameter | nn.ParameterList
        if len(set(widths)) > 1:
            self.values = nn.ParameterList([nn.Parameter(drawn(1, width)[0]) for width in widths])
        else:
            self.values = nn.Parameter(drawn(1 if shared else len(self.layers), project or widths[0]))
        self.project: nn.Module = nn.Identity()
        if project:
            self.project = nn.Linear(project, widths[0])
            nn.init.kaiming_normal_(self.project.weight, mode="fan_out")

    def prompts(self, layer: int, batch: int) -> Tensor:
        """P_layer, (1, P, D); with prompt dropout in training (batch, P, D), each image with its own mask."""
        row = 0 if self.shared else self.layers.index(layer)
        prompts = self.project(self.values[row]).unsqueeze(0)
        if self.training and self.dropout.p:
            prompts = self.dropout(prompts.expand(batch, -1, -1))
        return prompts

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, Tensor]:
        """All of them taken apart once, so that their gradients are put together once."""
        # Masks are drawn where blocks are reached, and so in the plain form.
        drawn = self.training and self.dropout.p > 0
        if drawn or self.shared or isinstance(self.values, nn.ParameterList):
            return {}
        rows = self._every(self.values).to(dtype).split(1)
        return {layer: self._normed(layer, row) for layer, row in zip(self.layers, rows, strict=True)}

    def _every(self, values: Tensor) -> Tensor:
        """The prompts of all blocks, (blocks, P, D), without dropout."""
        found: Tensor = self.project(values)
        return found

    def count(self) -> int:
        """P."""
        return self.values[0].shape[0]

    def loaded(self) -> None:
        """Prompts that were learned do not begin as patches."""
        self.needs_images = False

    @torch.no_grad()
    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Each prompt becomes a patch token, drawn from those that its block is given for training images.

        Or the mean or the maximum of a cluster of them.
        Wang et al., "Revisiting the Power of Prompt for Visual Tuning" (SPT), ICML 2024.
        """
        for row, layer in enumerate(self.layers[: len(self.values)]):
            patches = tokens[layer][:, self.prefix :].flatten(0, 1)
            num_tokens = self.count()
            if len(patches) < num_tokens:
                raise VptError(f"{len(patches)} patch tokens cannot initialise {num_tokens} prompts: give more images.")
            drawn = patches[torch.randperm(len(patches))[:num_tokens].to(patches.device)]
            if self.init in ("mean", "max"):
                drawn = pooled_clusters(patches, drawn, self.init)
            self.values[row].copy_(drawn)


def blocks_of(tower: Encoder, first: int | None, last: int | None, blocks: Sequence[int] | None) -> list[int]:
    """The blocks that options name: the first so many, the last so many, or those of a list; all of them by default.

    Raises:
        VptError: two of them are given, or a block that the encoder lacks.
    """
    if sum(option is not None for option in (first, last, blocks)) > 1:
        raise VptError("give one of first, last and blocks: prompts enter the first blocks, the last or those listed.")
    if blocks is not None:
        if not blocks or len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(tower.depth)):
            raise VptError(f"blocks={list(blocks)} must name blocks from 0 to {tower.depth - 1}, each once.")
        return sorted(blocks)
    count = first if first is not None else last if last is not None else tower.depth
    if not 1 <= count <= tower.depth:
        raise VptError(f"{count} blocks cannot have prompts: the backbone has 1 to {tower.depth}.")
    start = tower.depth - count if last is not None else 0
    return list(range(start, start + count))
