"""The blocks of timm's `VisionTransformer`, taken apart.

Beside the usual one: attention and MLP in parallel (Dehghani et al., ICML 2023), several of each (Touvron et
al., ECCV 2022), norms behind both, and differential attention (Ye et al., ICLR 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.layers.diff_attention import DiffAttention
from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
)
from torch import Tensor, nn

from vpt.towers.attention import separate
from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened
from vpt.towers.stages import Function, Out, same
from vpt.towers.timm_attention import Projections, dropout, feed_of, linear, out_of, projections

FUSED = (ParallelScalingBlock, DiffParallelScalingBlock)


def why_not_block(block: Any) -> str | None:
    """Why a block cannot be opened by `open_block`: it is not known, or has hooks."""
    if type(block) in FUSED:
        if type(block.in_proj) is not nn.Linear or type(block.out_proj) not in (nn.Linear, type(None)):
            return "its fused projections are no plain linear layers"
        if not isinstance(block.drop_path, nn.Identity) and block.training:
            return "attention and MLP are dropped together"
        return why_hooked(block)
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
        return _open_fused(block)
    if type(block) is ParallelThingsBlock:
        return _open_things(block)
    attn = block.attn
    query_key_value, key_value = _projections(attn)
    opened = Opened(
        norm=block.norm1,
        query_key_value=query_key_value,
        key_value=key_value,
        out=_out(attn, lambda x: block.drop_path1(block.ls1(x))),
        feed=feed_of(block.mlp, block.norm2, lambda x: block.drop_path2(block.ls2(x))),
        dropout=dropout(attn),
        linear=linear(attn) and type(attn) is Attention,
    )
    if type(block) is Block:
        return opened
    return replace(
        opened,
        norm=same,
        out=_out(attn, lambda x: block.drop_path1(block.norm1(x))),
        feed=feed_of(block.mlp, same, lambda x: block.drop_path2(block.norm2(x))),
    )


def _projections(attn: Any) -> Projections:
    if type(attn) is Attention:
        return projections(attn)
    query_key_value = _paired(attn, lambda y: attn.qkv(y).chunk(3, dim=-1))

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        _, k, v = query_key_value(y)
        return k, v

    return query_key_value, key_value


def _out(attn: Any, end: Function) -> Out:
    """What attention makes of what its heads give, and `end` of that."""
    if type(attn) is Attention:
        return out_of(attn, end)
    return Out(attn.proj, lambda x: end(attn.proj_drop(x)), lambda o, y: attn.norm(_difference(attn, o)))


def _paired(attn: Any, project: Callable[[Tensor], tuple[Tensor, ...]]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Queries, keys and values of differential attention: its two softmaxes are two heads with values in common."""

    def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
        q, k, v = project(y)
        q, k = (each.unflatten(-1, (2 * attn.num_heads, attn.head_dim)) for each in (q, k))
        v = v.unflatten(-1, (attn.num_heads, 2 * attn.head_dim)).repeat_interleave(2, dim=-2)
        return attn.q_norm(q), attn.k_norm(k), v

    return query_key_value


def _difference(attn: Any, o: Tensor) -> Tensor:
    """What two heads each give, (B, N, 2 · heads · 2 d), the second taken from the first, normed: (B, N, D)."""
    first, second = o.unflatten(-1, (attn.num_heads, 2, 2 * attn.head_dim)).unbind(-2)
    difference = first - attn._compute_lambda().type_as(o) * second
    return (attn.sub_norm(difference) * (1 - attn.lambda_init)).flatten(-2)


def _open_fused(block: Any) -> Opened:
    """Attention and MLP of one norm and one projection each, beside one another."""
    hidden = block.in_split[0]
    differential = type(block) is DiffParallelScalingBlock

    def inward(y: Tensor, rows: slice) -> Tensor:
        bias = block.in_proj.bias
        return F.linear(y, block.in_proj.weight[rows], None if bias is None else bias[rows])

    def outward(x: Tensor, layer: nn.Linear | None, columns: slice, bias: bool) -> Tensor:
        if layer is None:
            x = F.linear(x, block.out_proj.weight[:, columns], block.out_proj.bias if bias else None)
        else:
            x = layer(x)
        found: Tensor = block.ls(x)
        return found

    def plain(y: Tensor) -> tuple[Tensor, ...]:
        qkv = inward(y, slice(hidden, None)).unflatten(-1, (3, block.num_heads, -1))
        if isinstance(block.q_norm, nn.Identity) and isinstance(block.k_norm, nn.Identity):
            return (qkv,)
        q, k, v = qkv.unbind(-3)
        return block.q_norm(q), block.k_norm(k), v

    def out(o: Tensor, y: Tensor) -> Tensor:
        o = _difference(block, o) if differential else o
        layer = None if differential else block.attn_out_proj
        return outward(o, layer, slice(o.shape[-1]), True)

    def feed(x: Tensor) -> Tensor:
        h = inward(block.in_norm(x), slice(hidden))
        h = h if block.mlp_bias is None else h + block.mlp_bias
        layer = None if differential else block.mlp_out_proj
        return outward(block.mlp_drop(block.mlp_act(h)), layer, slice(-hidden, None), False)

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        _, k, v = separate(query_key_value(y))
        return k, v

    query_key_value: Callable[[Tensor], tuple[Tensor, ...]] = plain
    if differential:
        query_key_value = _paired(block, lambda y: inward(y, slice(hidden, None)).chunk(3, dim=-1))
    return Opened(
        norm=block.in_norm,
        query_key_value=query_key_value,
        key_value=key_value,
        out=out,
        feed=feed,
        dropout=dropout(block),
        linear=linear(block) and not differential,
        parallel=True,
    )


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
