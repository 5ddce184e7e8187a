"""timm's blocks whose attention and MLP are beside one another (Dehghani et al., ICML 2023), with layers in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock
from torch import Tensor, nn

from vpt.towers.attention import heads_of
from vpt.towers.base import why_hooked
from vpt.towers.opened import Opened
from vpt.towers.scaling import scaled
from vpt.towers.stages import Function, Joint, ending
from vpt.towers.timm_attention import difference, dropout, linear, pairs

FUSED = (ParallelScalingBlock, DiffParallelScalingBlock)


def why_not_fused(block: Any) -> str | None:
    """Why a block of `FUSED` cannot be opened, or None where it can."""
    if type(block.in_proj) is not nn.Linear or type(block.out_proj) not in (nn.Linear, type(None)):
        return "its fused projections are no plain linear layers"
    if not isinstance(block.drop_path, nn.Identity) and block.training:
        return "attention and MLP are dropped together"
    return why_hooked(block, block.in_proj, *([] if block.out_proj is None else [block.out_proj]))


def open_fused(block: Any) -> Opened:
    """The parts of a block that `why_not_fused` finds nothing against."""
    inward, up, query_key_value, key_value = _inwards(block)
    outward, scale, out, feed = _outwards(block, up)
    return Opened(
        norm=block.in_norm,
        query_key_value=query_key_value,
        key_value=key_value,
        out=out,
        feed=feed,
        dropout=dropout(block),
        linear=_is_plain(block),
        parallel=True,
        joint=Joint(inward, up, outward, scale, (query_key_value, out, feed)),
    )


def _is_plain(block: Any) -> bool:
    """Whether queries, keys and values are what products with the tokens give."""
    return type(block) is ParallelScalingBlock and linear(block)


def _inwards(block: Any) -> tuple[Any, Any, Any, Any]:
    """`Joint.inward` and `Joint.up`, `Opened.query_key_value` and `Opened.key_value`, of one projection."""
    hidden, width = block.in_split[:2]
    plain = _is_plain(block)

    def projected(y: Tensor, first: int, last: int) -> Tensor:
        weight, bias = block.in_proj.weight[first:last], block.in_proj.bias
        # Tokens behind contexts lie apart, and would be taken for as many products as there are rows.
        found = F.linear(y.flatten(0, 1), weight, None if bias is None else bias[first:last])
        return found.unflatten(0, y.shape[:2])

    def biased(h: Tensor) -> Tensor:
        return h if block.mlp_bias is None else h + block.mlp_bias

    def by_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        if type(block) is DiffParallelScalingBlock:
            return pairs(block, q, k, v)
        q, k, v = (heads_of(each, block.num_heads) for each in (q, k, v))
        return block.q_norm(q), block.k_norm(k), v

    def inward(y: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        h, q, k, v = block.in_proj(y).split(block.in_split, dim=-1)
        return by_head(q, k, v), biased(h)

    def up(y: Tensor) -> Tensor:
        return biased(projected(y, 0, hidden))

    def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
        qkv = projected(y, hidden, hidden + 3 * width)
        return (qkv.unflatten(-1, (3, block.num_heads, -1)),) if plain else by_head(*qkv.chunk(3, dim=-1))

    def key_value(y: Tensor) -> tuple[Tensor, Tensor]:
        if plain:
            k, v = projected(y, hidden + width, hidden + 3 * width).unflatten(-1, (2, block.num_heads, -1)).unbind(-3)
        else:
            _, k, v = query_key_value(y)
        return k, v

    return inward, up, query_key_value, key_value


def _outwards(block: Any, up: Function) -> tuple[Any, Tensor | None, Any, Any]:
    """`Joint.outward` and `Joint.scale`, `Opened.out` and `Opened.feed`, of one projection or two that are added."""
    fused, width = block.out_proj is not None, block.in_split[1]
    end, scale = ending(block.ls)

    def given(o: Tensor) -> Tensor:
        return difference(block, o) if type(block) is DiffParallelScalingBlock else o

    def act(h: Tensor) -> Tensor:
        found: Tensor = block.mlp_drop(block.mlp_act(h))
        return found

    def outward(o: Tensor, h: Tensor) -> Tensor:
        if fused:
            return end(block.out_proj(torch.cat([given(o), act(h)], dim=-1)))
        return end(block.attn_out_proj(given(o)) + block.mlp_out_proj(act(h)))

    def out(o: Tensor, y: Tensor) -> Tensor:
        o = given(o)
        weight, bias = (block.out_proj.weight[:, :width], block.out_proj.bias) if fused else (None, None)
        return scaled(scale, end(block.attn_out_proj(o) if weight is None else F.linear(o, weight, bias)))

    def feed(x: Tensor) -> Tensor:
        h = act(up(block.in_norm(x)))
        return scaled(scale, end(F.linear(h, block.out_proj.weight[:, width:]) if fused else block.mlp_out_proj(h)))

    return outward, scale, out, feed
