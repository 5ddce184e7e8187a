"""A transformer block taken apart, and its arithmetic for tokens that attend to contexts beside themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.towers.attention import Attended, attend, separate, together
from vpt.towers.picking import Neighbours, Pick, beside
from vpt.towers.places import Grid, Places
from vpt.towers.rows import Rows
from vpt.towers.scaling import added
from vpt.towers.spread import Packing
from vpt.towers.stages import Joint, Out, plus

Context = Tensor | Attended


@dataclass(frozen=True)
class Opened:
    """A transformer block, x + out(attention(norm(x))) and then x + feed(x), taken apart.

    Attributes:
        norm: the norm before attention, (B, N, D) to (B, N, D).
        query_key_value: normed tokens to queries, keys and values, (B, N, heads, d) each, or one (B, N, 3, heads, d).
        key_value: normed tokens to keys and values alone, two tensors.
        out: what attention gives, (B, N, heads · d), and the normed tokens, to what is added to x; a `stages.Out` where
            its projection can be added to.
        feed: x to what the MLP adds to it, its norm included; a `stages.Mlp` where its layers can be added to.
        dropout: of attention weights, 0 in evaluation mode.
        linear: queries, keys and values are linear in the normed tokens, and each is a head's own.
        turn: queries or keys of tokens, (B, L, heads, d), turned by where the tokens stand (rotary positions).
        bias: added to the scores of L tokens among each other by where they stand, (heads, L, L), given places and L.
        post1: the norm of x + out(…) where norms stand behind the sums, None where they do not.
        post2: likewise of the sum with what the MLP adds.
        parallel: the MLP is given x as the block was, beside attention.
        joint: attention and MLP together, where they have layers in common; of blocks that are `parallel`.
        grid: where patches stand among the tokens, for changes that look at it.
    """

    norm: Callable[[Tensor], Tensor]
    query_key_value: Callable[[Tensor], tuple[Tensor, ...]]
    key_value: Callable[[Tensor], tuple[Tensor, Tensor]]
    out: Callable[[Tensor, Tensor], Tensor]
    feed: Callable[[Tensor], Tensor]
    dropout: float = 0.0
    linear: bool = True
    turn: Callable[[Tensor, Places], Tensor] | None = None
    bias: Callable[[Places, int], Tensor] | None = None
    post1: Callable[[Tensor], Tensor] | None = None
    post2: Callable[[Tensor], Tensor] | None = None
    parallel: bool = False
    joint: Joint | None = None
    grid: Grid | None = None

    def projected(self, y: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values of normed tokens (B, N, D), (B, N, heads, d) each."""
        return separate(self.query_key_value(y))

    @property
    def outward(self) -> Joint | None:
        """`joint`, where nothing else takes the place of what the block adds."""
        joint = self.joint
        return joint if joint is not None and (self.out, self.feed) == joint.apart[1:] else None

    @property
    def inward(self) -> Joint | None:
        """`outward`, where nothing else takes the place of queries, keys and values."""
        joint = self.outward
        return joint if joint is not None and self.query_key_value is joint.apart[0] else None


def attended_of(block: Opened, context: Tensor | Attended) -> Attended:
    """Keys and values that a block makes of a context, where they are not there already."""
    return context if isinstance(context, Attended) else Attended(*block.key_value(block.norm(context)))


def advance_opened(
    block: Opened,
    x: Tensor,
    contexts: Sequence[Context],
    mask: Tensor | None,
    read: Pick | None,
    places: Places | None,
    *,
    changed: bool = False,
) -> Tensor:
    """The block's own arithmetic for `x`, with the contexts' keys and values beside those of `x`.

    `changed` says that a method has a part in it.
    """
    if block.joint is not None and read is not None:
        # Few tokens' part of what attention and MLP share is more operations than all of it.
        return read(advance_opened(block, x, contexts, mask, None, places, changed=changed))
    if torch.is_grad_enabled() and not x.requires_grad and not changed:
        # Nothing is kept of tokens that nobody trained yet, nor gone back through, where prompts are beside them.
        # What a method has learned in the block is gone back through for all of them.
        contexts = [attended_of(block, context) for context in contexts]
    known = [context for context in contexts if isinstance(context, Attended)]
    length = x.shape[1]
    x, own = (x, x) if read is None else beside(x, read)
    y, (q, k, v), hidden = _inward(block, x, contexts, read, places)
    bias = None
    if places is not None:
        if block.turn is not None:
            q, k = block.turn(q, places), _turned_behind(block.turn, k, places, length)
        if block.bias is not None:
            num_context = k.shape[1] - length + sum(context.keys.shape[1] for context in known)
            bias = block.bias(places, length)
            bias = F.pad(bias, (num_context, 0)) if num_context else bias
    if read is not None:
        # Where contexts are shared they are picked already.
        q = q if q.shape[1] < length else read(q)
        mask = mask if mask is None else read(mask)
        bias = bias if bias is None else read(bias)
    return _added(block, own, attend(q, k, v, known, together(mask, bias), block.dropout), y, hidden)


def _inward(
    block: Opened, x: Tensor, contexts: Sequence[Context], read: Pick | None, places: Places | None
) -> tuple[Tensor, Sequence[Tensor], Tensor | None]:
    """Normed tokens of those that are read; queries, keys and values; and what the MLP makes of `x` with them, if so.

    Contexts whose keys and values are there already are not among these. Queries may be of those that are read alone.
    """
    tokens = [context for context in contexts if isinstance(context, Tensor)]
    # Normed tokens enter what is added to few blocks' tokens.
    reads_y = None if isinstance(block.out, Out) and block.out.before is None else read
    if tokens:
        asks = read if places is None and isinstance(read, Neighbours) else None
        y, projected = _packed(block, x, tokens, asks, turned=places is not None and block.turn is not None)
        return y if reads_y is None else reads_y(y), projected, None
    y = block.norm(x)
    joint = block.inward
    # Where queries, keys and values are copied beside contexts, what they are parts of would be kept with them.
    if joint is not None and not (contexts and x.requires_grad):
        return y, *joint.inward(y)
    every_y, y = (y, y) if reads_y is None else beside(y, reads_y)
    return y, block.projected(every_y), None


def advance_in_rows(block: Opened, x: Tensor, mask: Tensor | None, read: Pick | None, rows: Rows) -> Tensor:
    """The block's own arithmetic for `x`, whose tokens attend to those of their rows; `mask` is of these."""
    y = block.norm(x)
    q, k, v = separate([rows.spread(each) for each in block.query_key_value(y)])
    given = rows.gathered(attend(q, k, v, (), mask, block.dropout))
    if read is not None:
        x, given, y = read(x), read(given), read(y)
    return _added(block, x, given, y)


def _added(block: Opened, x: Tensor, given: Tensor, y: Tensor, hidden: Tensor | None = None) -> Tensor:
    """`x` with what the block adds: by what attention gave, of normed tokens `y`, and by its MLP.

    `hidden` is what the MLP's first layer made of `y` where that is there already.
    """
    joint = block.outward
    if joint is not None:
        found = added(x, joint.outward(given, joint.up(y) if hidden is None else hidden), joint.scale)
        return found if block.post2 is None else block.post2(found)
    attended = plus(x, block.out, given, y)
    attended = attended if block.post1 is None else block.post1(attended)
    found = plus(attended, block.feed, x if block.parallel else attended)
    return found if block.post2 is None else block.post2(found)


def _turned_behind(turn: Callable[[Tensor, Places], Tensor], k: Tensor, places: Places, length: int) -> Tensor:
    """Keys of context, which stay as they are, and of the last `length` tokens, which are turned."""
    num_context = k.shape[1] - length
    return torch.cat([k[:, :num_context], turn(k[:, num_context:], places)], dim=1) if num_context else turn(k, places)


def _packed(
    block: Opened, x: Tensor, contexts: Sequence[Tensor], asks: Neighbours | None, *, turned: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """`x` normed, its queries, and keys and values of all that it attends to, norm and products taken together.

    Where many rows share a context, the queries may be those of `asks` alone. Keys that are `turned` are others then.
    """
    if all(context.shape[0] == x.shape[0] for context in contexts):
        # Each row has contexts of its own: they stand in it, and nothing need be copied.
        y = block.norm(torch.cat([*contexts, x], dim=1))
        q, k, v = block.projected(y)
        return y[:, -x.shape[1] :], (q[:, -x.shape[1] :], k, v)
    packing = Packing(x.shape[:2], tuple(context.shape[:2] for context in contexts))
    y = block.norm(torch.cat([each.flatten(0, 1) for each in (x, *contexts)])[None])
    projected = [each.squeeze(0) for each in block.query_key_value(y)]
    return packing.own(y.squeeze(0)), packing.spread(*projected, asks=asks, apart=turned)


def multihead_projections(
    attn: nn.MultiheadAttention,
) -> tuple[Callable[[Tensor], tuple[Tensor, ...]], Callable[[Tensor], Any]]:
    """`query_key_value` and `key_value` of torch's attention, whose three projections are one parameter."""

    def project(y: Tensor, first: int) -> Tensor:
        weight: Tensor = attn.in_proj_weight
        bias: Tensor | None = attn.in_proj_bias
        if first:
            rows = slice(first * attn.embed_dim, None)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        return F.linear(y, weight, bias).unflatten(-1, (3 - first, attn.num_heads, -1))

    return lambda y: (project(y, 0),), lambda y: project(y, 1).unbind(-3)
