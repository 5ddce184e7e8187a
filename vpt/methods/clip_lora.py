"""CLIP-LoRA, Zanella and Ben Ayed, CVPR 2024 workshops, https://arxiv.org/abs/2405.18541."""

from __future__ import annotations

import math
from typing import Literal

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.methods.parts.low_rank import LowRank


class ClipLora(Method):
    """Queries, keys and values of every block of both encoders, W y, become W y + alpha / √rank · B A dropout(y).

    A (rank, D) and B (D, rank) are learned for each projection by itself (section 3, "CLIP-LoRA"; the scale and the
    dropout are those of the paper's code, where alpha / √rank is the scale of rank-stabilised LoRA).

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
        if rank < 1:
            raise VptError(f"rank={rank} leaves nothing to learn: give 1 or more.")
        if not 0 <= dropout < 1:
            raise VptError(f"dropout={dropout} must be at least 0 and below 1.")
        if not projections or not set(projections) <= set("qkv") or len(set(projections)) < len(projections):
            raise VptError(f"projections={projections!r} must name one or more of q, k and v, each once.")
        if encoder == "text" and text is None:
            raise VptError("encoder='text' needs a text encoder: leave it out, or set head='text'.")
        scale = alpha / math.sqrt(rank)
        parts: dict[str, Part] = {}
        if encoder != "text":
            parts["image"] = LowRank(
                tower, "image", self.name, rank=rank, scale=scale, dropout=dropout, projections=projections
            )
        if encoder != "image" and text is not None:
            parts["text"] = LowRank(
                text, "text", self.name, rank=rank, scale=scale, dropout=dropout, projections=projections
            )
        super().__init__(**parts)
