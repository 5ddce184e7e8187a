"""What timm's kinds of attention have in common, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from vpt.towers import stages
from vpt.towers.attention import heads_of, separate
from vpt.towers.scaling import scaled
from vpt.towers.stages import Function, Out, ending, is_hooked, same

Projections = tuple[Callable[[Tensor], tuple[Tensor, ...]], Callable[[Tensor], tuple[Tensor, Tensor]]]


def projections(attn: Any) -> Projections:
    """`query_key_value` and `key_value` of attention with one projection for all three, or one for each.

    Biases may stand apart from the projection (EVA, BEiT), and keys may have fewer heads than queries, each of them for
    several neighbours (grouped queries).
    """
    groups = getattr(attn, "num_kv_groups", 1)
    q_norm, k_norm = _norm(attn, "q_norm"), _norm(attn, "k_norm")
    plain = q_norm is same and k_norm is same

    def all_three(y: Tensor) -> tuple[Tensor, ...]:
        if getattr(attn, "q_bias", None) is None:
            qkv = attn.qkv(y)
        else:
            qkv = F.linear(y, attn.qkv.weight, torch.cat((attn.q_bias, attn.k_bias, attn.v_bias)))
        qkv = qkv.unflatten(-1, (3, attn.num_heads, -1))
        if plain:
            return (qkv,)
        q, k, v = qkv.unbind(-3)
        return q_norm(q), k_norm(k), v

    def last_two(y: Tensor) -> tuple[Tensor, Tensor]:
        if attn.qkv is not None:
            _, k, v = separate(all_three(y))
            return k, v
        kv_heads = attn.num_heads // groups
        k, v = k_norm(heads_of(attn.k_proj(y), kv_heads)), heads_of(attn.v_proj(y), kv_heads)
        return (k, v) if groups == 1 else (k.repeat_interleave(groups, dim=-2), v.repeat_interleave(groups, dim=-2))

    if attn.qkv is not None:
        return all_three, last_two
    return lambda y: (q_norm(heads_of(attn.q_proj(y), attn.num_heads)), *last_two(y)), last_two


def paired(attn: Any, project: Callable[[Tensor], tuple[Tensor, ...]]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Queries, keys and values of differential attention: its two softmaxes are two heads with values in common."""

    def query_key_value(y: Tensor) -> tuple[Tensor, ...]:
        return pairs(attn, *project(y))

    return query_key_value


def pairs(attn: Any, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, N, heads · 2 d) as those of two heads each, (B, N, 2 heads, …)."""
    q, k = (heads_of(each, 2 * attn.num_heads) for each in (q, k))
    return attn.q_norm(q), attn.k_norm(k), heads_of(v, attn.num_heads).repeat_interleave(2, dim=-2)


def difference(attn: Any, o: Tensor) -> Tensor:
    """What two heads each give, (B, N, 2 · heads · 2 d), the second taken from the first, normed: (B, N, D)."""
    first, second = o.unflatten(-1, (attn.num_heads, 2, 2 * attn.head_dim)).unbind(-2)
    found = first - attn._compute_lambda().type_as(o) * second
    return (attn.sub_norm(found) * (1 - attn.lambda_init)).flatten(-2)


def linear(attn: Any) -> bool:
    """Queries, keys and values are what products with the tokens give: not normed, and one of each for a head."""
    plain = _norm(attn, "q_norm") is same and _norm(attn, "k_norm") is same
    return plain and getattr(attn, "num_kv_groups", 1) == 1


def out_of(attn: Any, *steps: Any) -> Out:
    """What attention makes of what its heads give, and `steps` of that, as `stages.ending` takes them."""
    norm, gate = _norm(attn, "norm"), getattr(attn, "gate", None)

    def before(o: Tensor, y: Tensor) -> Tensor:
        o = norm(o)
        return o if gate is None else o * gate(y).sigmoid()

    return Out(attn.proj, *ending(attn.proj_drop, *steps), None if norm is same and gate is None else before)


def _norm(attn: Any, name: str) -> Function:
    """The norm of this name, `same` where there is none."""
    found: Function = getattr(attn, name, same)
    return same if isinstance(found, nn.Identity) and not is_hooked(found) else found


def feed_of(mlp: Any, norm: Function, *steps: Any) -> Function:
    """What an MLP, and `steps` behind it, add to tokens, taken apart where it is timm's plain one."""
    if type(mlp) is not Mlp or is_hooked(mlp):
        end, scale = ending(*steps)
        return lambda x: scaled(scale, end(mlp(norm(x))))
    end, scale = ending(mlp.drop2, *steps)
    return stages.Mlp(
        norm=norm, up=mlp.fc1, act=lambda h: mlp.norm(mlp.drop1(mlp.act(h))), down=mlp.fc2, end=end, scale=scale
    )


def dropout(attn: Any) -> float:
    """Of attention weights, 0 in evaluation mode."""
    found: float = attn.attn_drop.p if attn.training else 0.0
    return found
