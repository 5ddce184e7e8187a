"""The blocks of timm's `VisionTransformer`, taken apart.

Beside the usual one: several attentions and MLPs in parallel (Touvron et al., ECCV 2022), norms behind both, and
differential attention (Ye et al., ICLR 2025).
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention
from timm.layers.diff_attention import DiffAttention
from timm.models.vision_transformer import Block, ParallelThingsBlock, ResPostBlock
from torch import Tensor

from vpt.towers.attention import separate
from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened
from vpt.towers.stages import Out, ending, same
from vpt.towers.timm_attention import Projections, difference, dropout, feed_of, linear, out_of, paired, projections
from vpt.towers.timm_fused import FUSED, open_fused, why_not_fused


def why_not_block(block: Any) -> str | None:
    """Why a block cannot be opened by `open_block`: it is not known, or has hooks."""
    if type(block) in FUSED:
        return why_not_fused(block)
    if type(block) not in (Block, ResPostBlock, ParallelThingsBlock):
        return f"{type(block).__name__} is not one of timm's blocks that are known"
    attentions = [part.attn for part in block.attns] if type(block) is ParallelThingsBlock else [block.attn]
    for attn in attentions:
        if type(attn) not in (Attention, DiffAttention):
            return f"{type(attn).__name__} is neither timm's plain Attention nor its DiffAttention"
    return why_hooked(block, *attentions)


def open_block(block: Any) -> Opened:
    """The parts of a block that `why_not_block` finds nothing against."""
    if type(block) in FUSED:
        return open_fused(block)
    if type(block) is ParallelThingsBlock:
        return _open_things(block)
    attn, behind = block.attn, type(block) is ResPostBlock
    query_key_value, key_value = _projections(attn)
    ends = (block.norm1, block.norm2) if behind else (block.ls1, block.ls2)
    return Opened(
        norm=same if behind else block.norm1,
        query_key_value=query_key_value,
        key_value=key_value,
        out=_out(attn, ends[0], block.drop_path1),
        feed=feed_of(block.mlp, same if behind else block.norm2, ends[1], block.drop_path2),
        dropout=dropout(attn),
        linear=linear(attn) and type(attn) is Attention,
    )


def _projections(attn: Any) -> Projections:
    if type(attn) is Attention:
        return projections(attn)
    query_key_value = paired(attn, lambda y: attn.qkv(y).chunk(3, dim=-1))

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        _, k, v = query_key_value(y)
        return k, v

    return query_key_value, key_value


def _out(attn: Any, *steps: Any) -> Out:
    """What attention makes of what its heads give, and `steps` of that."""
    if type(attn) is Attention:
        return out_of(attn, *steps)
    return Out(attn.proj, *ending(attn.proj_drop, *steps), lambda o, y: attn.norm(difference(attn, o)))


def _open_things(block: Any) -> Opened:
    """Several attentions, each with a norm of its own, as one with the heads of all; then several MLPs."""
    parts = [_projections(branch.attn) for branch in block.attns]
    outs = [_out(branch.attn, branch.ls) for branch in block.attns]
    count = len(parts)

    def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
        found = [separate(part[0](own)) for part, own in zip(parts, y.chunk(count, dim=-1), strict=True)]
        return tuple(torch.cat(each, dim=-2) for each in zip(*found, strict=True))

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        _, k, v = query_key_value(y)
        return k, v

    def out(o: Tensor, y: Tensor) -> Tensor:
        given = zip(block.attns, outs, o.chunk(count, dim=-1), y.chunk(count, dim=-1), strict=True)
        return torch.stack([branch.drop_path(out(own, normed)) for branch, out, own, normed in given]).sum(0)

    return Opened(
        norm=lambda x: torch.cat([branch.norm(x) for branch in block.attns], dim=-1),
        query_key_value=query_key_value,
        key_value=key_value,
        out=out,
        feed=lambda x: torch.stack([feed(x) for feed in block.ffns]).sum(0),
        dropout=dropout(block.attns[0].attn),
        linear=False,
    )
