"""Visual Prompt Tuning, Jia et al., ECCV 2022, https://arxiv.org/abs/2203.12119."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder


class VisualPrompts(Method):
    """Prompt tokens between the prefix and the patches, new ones before each block of `layers`.

    The sequence before block i is [prefix, P_i, patches] (section 3.2, equations 4 to 8). Prompts get no
    position embedding. Where the next block has none of its own, they are carried on.
    """

    source = "Jia et al., ECCV 2022"
    prompts_image = True

    def __init__(
        self,
        tower: Encoder,
        layers: Sequence[int],
        *,
        num_tokens: int,
        shared: bool,
        dropout: float,
        project: int | None,
        init: Literal["uniform", "normal", "patches"],
        pre_norm: bool = False,
    ) -> None:
        super().__init__(tower)
        if num_tokens < 1:
            raise VptError(f"num_tokens={num_tokens} leaves no prompt to learn: give 1 or more.")
        if not 0 <= dropout < 1:
            raise VptError(f"dropout={dropout} must be at least 0 and below 1.")
        if project is not None and project < 1:
            raise VptError(f"project={project} leaves nothing to project from: give 1 or more, or leave it out.")
        if init == "patches" and project:
            raise VptError("init='patches' sets prompts of the backbone's width: leave project out, or init='uniform'.")
        self.layers = tuple(layers)
        self.enters = frozenset(layers)
        self.prefix = tower.prefix
        self.enters_before_norm = pre_norm
        # A bound method: the tower is no part of the method, and is neither saved nor counted with it.
        self._pre_norm = tower.pre_norm
        self.shared = shared
        self.needs_images = init == "patches"
        self.dropout = nn.Dropout(dropout)
        widths = [tower.width_at(layer) for layer in self.layers]
        if len(set(widths)) > 1 and (shared or project):
            raise VptError(f"blocks of this backbone have widths {widths}: leave shared and project out.")

        def drawn(rows: int, size: int) -> Tensor:
            # Section A: the bound of Xavier's uniform initialisation for the patch embedding.
            bound = math.sqrt(6 / (3 * tower.patch_size**2 + size))
            values = torch.empty(rows, num_tokens, size)
            return values.normal_(std=0.02) if init == "normal" else values.uniform_(-bound, bound)

        # A row for each block, (blocks, P, D); of an encoder of stages, which get wider, a tensor for each block.
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

    def plain(self, layer: int, x: Tensor) -> Tensor:
        """[prefix, P_layer, patches]: inserted before the first of `layers`, put in place at the others."""
        if layer not in self.enters:
            return x
        if layer > self.layers[0]:
            x = self.strip(x)
        prompts = self.prompts(layer, len(x)).to(x.dtype).expand(len(x), -1, -1)
        if layer == 0 and self.enters_before_norm:
            prompts = self._pre_norm(prompts)
        return torch.cat([x[:, : self.prefix], prompts, x[:, self.prefix :]], dim=1)

    def strip(self, x: Tensor) -> Tensor:
        """[prefix, patches]."""
        num_tokens = self.values[0].shape[0]
        return torch.cat([x[:, : self.prefix], x[:, self.prefix + num_tokens :]], dim=1)

    @torch.no_grad()
    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Each prompt becomes a patch token, drawn from those that its block is given for training images.

        Wang et al., "Revisiting the Power of Prompt for Visual Tuning" (SPT), ICML 2024.
        """
        for row, layer in enumerate(self.layers[: len(self.values)]):
            patches = tokens[layer][:, self.prefix :].flatten(0, 1)
            num_tokens = self.values[0].shape[0]
            if len(patches) < num_tokens:
                raise VptError(f"{len(patches)} patch tokens cannot initialise {num_tokens} prompts: give more images.")
            self.values[row].copy_(patches[torch.randperm(len(patches))[:num_tokens].to(patches.device)])


class VPTShallow(VisualPrompts):
    """VPT-shallow: prompts enter before block 0 and are advanced with the image (equations 4 and 5)."""

    name = "vpt-shallow"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 50,
        dropout: float = 0.0,
        project: int | None = None,
        init: Literal["uniform", "normal", "patches"] = "uniform",
    ) -> None:
        super().__init__(tower, [0], num_tokens=num_tokens, shared=False, dropout=dropout, project=project, init=init)


class VPTDeep(VisualPrompts):
    """VPT-deep: every block has prompts of its own, and drops what it computes at their places (equation 6).

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P a block.
        first: only the first so many blocks get new prompts; the last of them are carried on.
        last: only the last so many blocks get prompts.
        shared: one set of prompts for all blocks.
        dropout: of prompt values, a mask for each image.
        project: prompts of this size, brought to the backbone's width by one linear layer.
        init: "uniform" as in the paper, "normal" for N(0, 0.02), or "patches" for patch tokens of training images.
        pre_norm: prompts of block 0 go through CLIP's norm before the blocks, as in the code of MaPLe (Khattak et al.,
            CVPR 2023), where this is a baseline.
    """

    name = "vpt-deep"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 10,
        first: int | None = None,
        last: int | None = None,
        shared: bool = False,
        dropout: float = 0.0,
        project: int | None = None,
        init: Literal["uniform", "normal", "patches"] = "uniform",
        pre_norm: bool = False,
    ) -> None:
        if first is not None and last is not None:
            raise VptError("give first or last, not both: prompts enter the first blocks or the last ones.")
        count = first if first is not None else last if last is not None else tower.depth
        if not 1 <= count <= tower.depth:
            raise VptError(f"{count} blocks cannot have prompts: the backbone has 1 to {tower.depth}.")
        start = tower.depth - count if last is not None else 0
        super().__init__(
            tower,
            range(start, start + count),
            num_tokens=num_tokens,
            shared=shared,
            dropout=dropout,
            project=project,
            init=init,
            pre_norm=pre_norm,
        )
