"""The block of open_clip's image and text transformers, taken apart."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened, multihead_projections
from vpt.towers.stages import Out, ending, mlp_of


def why_not_residual(block: Any) -> str | None:
    """Why a block cannot be opened by `open_residual`."""
    if type(block) is not ResidualAttentionBlock:
        return f"{type(block).__name__} is not open_clip's ResidualAttentionBlock"
    if type(block.attn) is not nn.MultiheadAttention:
        return f"{type(block.attn).__name__} is not torch's MultiheadAttention"
    return why_hooked(block, block.attn)


def open_residual(block: Any) -> Opened:
    """The parts of a `ResidualAttentionBlock`, whose attention is torch's `MultiheadAttention`."""
    attn = block.attn
    query_key_value, key_value = multihead_projections(attn)
    return Opened(
        norm=block.ln_1,
        query_key_value=query_key_value,
        key_value=key_value,
        out=Out(attn.out_proj, *ending(block.ls_1)),
        feed=mlp_of(block.mlp, block.ln_2, *ending(block.ls_2)),
        dropout=attn.dropout if attn.training else 0.0,
    )
