"""CLIP-LoRA, Zanella and Ben Ayed, CVPR 2024 workshops, https://arxiv.org/abs/2405.18541."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder


class LowRank(nn.Module):
    """For each block of an encoder, and each of its projections, a matrix of low rank that is added to the frozen one.

    Attributes:
        down: (blocks, projections, rank, D); uniform between ± 1 / √D at first, which is Kaiming's for a = √5.
        up: (blocks, projections, D, rank); zero at first.
    """

    def __init__(self, depth: int, width: int, *, rank: int, projections: str) -> None:
        super().__init__()
        self.projections = projections
        self.down = nn.Parameter(torch.empty(depth, len(projections), rank, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(depth, len(projections), width, rank))

    def forward(self, y: Tensor, layer: int, names: str, dropout: float = 0.0) -> Tensor:
        """B A dropout(y) of normed tokens (B, N, D) for n projections, one product for all of them: (n, B, N, D).

        Each projection draws a mask of its own.

        Args:
            y: tokens.
            layer: of the block.
            names: of those projections, in the order of `projections`.
            dropout: of tokens.
        """
        first = self.projections.index(names[0])
        down, up = (part[layer, first : first + len(names)].to(y.dtype) for part in (self.down, self.up))
        inputs = F.dropout(y.flatten(0, 1).expand(len(names), -1, -1), dropout)
        return (inputs @ down.transpose(1, 2) @ up.transpose(1, 2)).unflatten(1, y.shape[:2])


class ClipLora(Method):
    """Queries, keys and values of every block of both encoders, W y, become W y + alpha / √rank · B A dropout(y).

    A (rank, D) and B (D, rank) are learned for each projection by itself (section 3, "CLIP-LoRA"; the scale and the
    dropout are those of the paper's code, where alpha / √rank is the scale of rank-stabilised LoRA). They are added
    to what the projections give, and W stays as it is: in memory, in the file of the backbone, and in other models
    that share it. In training, tokens that all texts begin with draw one dropout mask for all of them.

    Args:
        tower: the image encoder.
        text: the text encoder; None, with a linear head, adapts the image encoder alone.
        rank: of the added matrices.
        alpha: scales them.
        dropout: of the tokens that they are applied to, a mask for each projection.
        encoder: "both", or only the "image" or "text" encoder.
        projections: which of q, k and v are added to.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "clip-lora"
    source = "Zanella and Ben Ayed, CVPR 2024 workshops"
    head = "text"
    template = "a photo of a {}."

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        rank: int = 2,
        alpha: float = 1.0,
        dropout: float = 0.25,
        encoder: Literal["both", "image", "text"] = "both",
        projections: str = "qkv",
    ) -> None:
        super().__init__(tower, text)
        if rank < 1:
            raise VptError(f"rank={rank} leaves nothing to learn: give 1 or more.")
        if not 0 <= dropout < 1:
            raise VptError(f"dropout={dropout} must be at least 0 and below 1.")
        if not projections or not set(projections) <= set("qkv") or len(set(projections)) < len(projections):
            raise VptError(f"projections={projections!r} must name one or more of q, k and v, each once.")
        if encoder == "text" and text is None:
            raise VptError("encoder='text' needs a text encoder: leave it out, or set head='text'.")
        self.scale, self.dropout = alpha / math.sqrt(rank), dropout
        self.image: LowRank | None = None
        self.text: LowRank | None = None
        if encoder != "text":
            _check_blocks(tower, "image")
            self.image = LowRank(tower.depth, tower.width, rank=rank, projections=projections)
            self.image_change = self._change_image
        if encoder != "image" and text is not None:
            _check_blocks(text, "text")
            self.text = LowRank(text.depth, text.width, rank=rank, projections=projections)
            self.text_change = self._change_text
        self.prompts_image, self.prompts_text = self.image is not None, self.text is not None

    def _change_image(self, layer: int, block: Any) -> Any:
        assert self.image is not None
        return self._changed(self.image, layer, block)

    def _change_text(self, layer: int, block: Any) -> Any:
        assert self.text is not None
        return self._changed(self.text, layer, block)

    def _changed(self, added: LowRank, layer: int, block: Any) -> Any:
        """The opened block with what is learned in its projections."""

        def plus(projected: tuple[Tensor, ...], y: Tensor, names: str) -> tuple[Tensor, ...]:
            given = [name for name in added.projections if name in names]
            if not given:
                return projected
            learned = added(y, layer, "".join(given), self.dropout if self.training else 0.0)
            if len(projected) == 1 and given == list(names):
                # One product gave them all, (B, N, n, heads, d).
                return (torch.add(projected[0], learned.movedim(0, 2).view_as(projected[0]), alpha=self.scale),)
            sums = dict(zip(names, projected if len(projected) > 1 else projected[0].unbind(2), strict=True))
            for name, change in zip(given, learned, strict=True):
                sums[name] = torch.add(sums[name], change.view_as(sums[name]), alpha=self.scale)
            return tuple(sums.values())

        return replace(
            block,
            query_key_value=lambda y: plus(block.query_key_value(y), y, "qkv"),
            key_value=lambda y: plus(block.key_value(y), y, "kv"),
        )


def _check_blocks(encoder: Encoder | TextEncoder, which: str) -> None:
    for layer in range(encoder.depth):
        why = encoder.why_unchanged(layer)
        if why is not None:
            raise VptError(f"clip-lora cannot be added to block {layer} of the {which} encoder: {why}.")
