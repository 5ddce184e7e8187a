"""A frozen encoder, opened in one place: tokens can be advanced, or merely attended to."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpt.errors import VptError
from vpt.towers.attention import Attended, Packing, attend, separate, shared, together
from vpt.towers.picking import Pick, beside
from vpt.towers.places import Grid, Places
from vpt.towers.stages import Mlp, Out

Context = Tensor | Attended
Change = Callable[[int, Any], Any] | None


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
    grid: Grid | None = None

    def projected(self, y: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values of normed tokens (B, N, D), (B, N, heads, d) each."""
        return separate(self.query_key_value(y))


class Tower(nn.Module, ABC):
    """A transformer encoder as prompt methods see it: its blocks, and what stands before and after them.

    Attributes:
        width: size D of a token.
        depth: number of blocks.
        num_features: size F of what is read out.
        placed: attention depends on where tokens stand, and `advance` has to be told by `places`.
        recompute: what is not kept for the backward pass but computed again there: nothing (None), the MLP of
            each block that can be opened, or each block whole.
    """

    width: int
    depth: int
    num_features: int
    placed: bool = False
    recompute: Literal["mlp", "block"] | None = None

    @abstractmethod
    def block(self, layer: int) -> nn.Module:
        """The library's own block `layer`."""

    @abstractmethod
    def readout(self, x: Tensor) -> Tensor:
        """Tokens after the last block to features (B, F): final norm, pooling, projection."""

    @abstractmethod
    def why_whole(self, layer: int) -> str | None:
        """Why block `layer` cannot be opened, or None where it can."""

    @abstractmethod
    def open(self, layer: int) -> Opened:
        """The parts of a block that can be opened."""

    def width_at(self, layer: int) -> int:
        """D of tokens before block `layer`, 0 to depth; the same everywhere but in towers of stages."""
        return self.width

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None, places: Places | None = None) -> Tensor:
        """The library's own block on tokens (B, N, D), with an additive mask, (N, N) or (B, N, N)."""
        block = self.block(layer)
        return block(x) if mask is None else block(x, attn_mask=mask if mask.ndim == 2 else mask.unsqueeze(1))

    def advance(
        self,
        layer: int,
        x: Tensor,
        context: Context | Sequence[Context] | None = None,
        mask: Tensor | None = None,
        change: Change = None,
        read: Pick | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """Block `layer` applied to `x`, which also attends to `context`; the context is not advanced.

        Args:
            layer: 0 to depth - 1.
            x: tokens, (B, L, D).
            context: further tokens, (G, M, D) with G a divisor of B, or several such tensors, which count as
                one after another; each row is shared by B / G neighbours of the batch, and its keys and
                values are computed once, or come as `attended` gave them.
            mask: added to the attention scores, (L, M + L) or (B, L, M + L), -inf where a token is not to see
                another; the context's columns come first. Boolean masks are taken too, True where a token is seen.
            change: a method's part in the block: the layer and its `Opened` to another that takes its place.
            read: the tokens that are advanced, (B, L, …) to (B, N, …); the others are attended to. All by default.
            places: where the tokens of `x` stand, as `ImageTower.embedded` gave it; of towers that are `placed`. The
                context has no place.

        Returns:
            (B, N, D), N = L without `read`.

        Raises:
            VptError: a tower that is `placed` is not told where tokens stand.
        """
        if self.placed and places is None:
            raise VptError(
                f"attention of a {type(self).__name__} depends on where tokens stand: say places=…, which "
                "tower.embedded(images) gives beside the tokens."
            )
        contexts = list(context) if isinstance(context, Sequence) else [] if context is None else [context]
        if self.recompute == "block" and torch.is_grad_enabled():
            kept: Tensor = checkpoint(
                self._advance, layer, x, contexts, mask, change, read, places, use_reentrant=False
            )
            return kept
        return self._advance(layer, x, contexts, mask, change, read, places)

    def _advance(
        self,
        layer: int,
        x: Tensor,
        contexts: Sequence[Context],
        mask: Tensor | None,
        change: Change,
        read: Pick | None,
        places: Places | None,
    ) -> Tensor:
        part = self.recompute == "mlp" and torch.is_grad_enabled()
        if change is not None or ((contexts or part or read) and self.why_whole(layer) is None):
            block = self.open(layer) if change is None else change(layer, self.open(layer))
            if part:
                block = replace(block, feed=partial(checkpoint, block.feed, use_reentrant=False))
            return _advance_opened(block, x, contexts, mask, read, places)
        x = self._advance_whole(layer, x, contexts, mask, places)
        return x if read is None else read(x)

    def _advance_whole(
        self, layer: int, x: Tensor, contexts: Sequence[Context], mask: Tensor | None, places: Places | None
    ) -> Tensor:
        """The general fallback: the library's block on context and `x` together, of which `x`'s part is kept."""
        parts = [shared(context, x.shape[0]) for context in contexts if isinstance(context, Tensor)]
        both = torch.cat([*parts, x], dim=1) if parts else x
        num_context = both.shape[1] - x.shape[1]
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(~mask, -torch.inf)
            mask = F.pad(mask, (0, 0, num_context, 0)) if num_context else mask
        if places is not None:
            places = places.behind(num_context, x.shape[1], x)
        found = self.run(layer, both, mask, places)
        return found[:, num_context:] if num_context else found

    def why_unopened(self, layer: int) -> str | None:
        """Why nothing can be put into block `layer` or beside its parts, or None where it can."""
        return self.why_whole(layer)

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to the queries, keys and values of block `layer`, or None where it can."""
        why = self.why_whole(layer)
        linear = why is not None or self.open(layer).linear
        return why if linear else "its queries and keys are normed, or are more than products with its tokens"

    def sizes(self, layer: int) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear stages of block `layer` that can be added to: "o", "up" and "down"."""
        if self.why_whole(layer) is not None:
            return {}
        block, found = self.open(layer), {}
        kernel = next(parameter for parameter in self.block(layer).parameters() if parameter.ndim > 1)
        with torch.no_grad():
            token = kernel.new_zeros(1, 1, self.width_at(layer))
            if isinstance(block.out, Out):
                normed = block.norm(token)
                given = block.out.given(block.key_value(normed)[1].flatten(2), normed)
                found["o"] = (given.shape[-1], block.out.project(given).shape[-1])
            if isinstance(block.feed, Mlp):
                hidden = block.feed.act(block.feed.up(token))
                found["up"] = (token.shape[-1], block.feed.up(token).shape[-1])
                found["down"] = (hidden.shape[-1], block.feed.down(hidden).shape[-1])
        return found

    def heads(self, layer: int) -> tuple[int, int, int]:
        """Heads of block `layer`, which can be opened, and how many numbers a key and a value of one have."""
        kernel = next(parameter for parameter in self.block(layer).parameters() if parameter.ndim > 1)
        block = self.open(layer)
        with torch.no_grad():
            keys, values = block.key_value(block.norm(kernel.new_zeros(1, 1, self.width_at(layer))))
        return keys.shape[2], keys.shape[3], values.shape[3]

    def attended(self, layer: int, context: Tensor, change: Change = None) -> Tensor | Attended:
        """What block `layer` makes of a context whatever the tokens are; itself where it cannot be opened.

        `change` is a method's part in the block, as `advance` takes it.
        """
        if self.why_whole(layer) is not None:
            return context
        block = self.open(layer) if change is None else change(layer, self.open(layer))
        return _attended(block, context)

    def path(self, layer: int) -> str:
        """Which way block `layer` takes a context, and why."""
        why = self.why_whole(layer)
        return "opened: a context costs its keys and values" if why is None else f"whole block: {why}"


class ImageTower(Tower):
    """An image encoder.

    Attributes:
        prefix: how many tokens stand before the patches (class, distilled and register tokens).
        read: `readout` looks at the first `read` tokens alone; None where it looks at all of them.
        patch_size: side of a patch, in pixels.
        image_size: height and width that `embed` takes, in pixels; None for any.
        channels: of images, 3 for RGB.
        closed: why no prompt can enter its blocks, as the end of a sentence; None where they can. It is then called by
            `features` as it is.
        hierarchical: tokens lie in a grid of stages, as a `hierarchical.HierarchicalTower` has them.
        classifier: weights (S, F) and biases (S,) of the linear classifier that its model had, on the features that are
            read; None without one.
        projects: `readout` ends in `project`; without it features are what that is given.
    """

    prefix: int
    read: int | None
    patch_size: int
    image_size: tuple[int, int] | None
    channels: int = 3
    closed: str | None = None
    hierarchical: bool = False
    classifier: tuple[Tensor, Tensor | None] | None = None
    projects: bool = True

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens before block 0 (B, N, D), positions added."""

    def embedded(self, images: Tensor) -> tuple[Tensor, Places | None]:
        """`embed`, and where the tokens stand, which blocks of a tower that is `placed` have to be told."""
        return self.embed(images), None

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, F), with nothing entered."""
        x, places = self.embedded(images)
        for layer in range(self.depth):
            x = self.advance(layer, x, places=places)
        return self.readout(x)

    @abstractmethod
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the pooling, an identity where there is none."""

    def projection_weight(self) -> nn.Parameter | None:
        """The matrix that `project` multiplies by, None where that is not all it does."""
        return None

    def project(self, pooled: Tensor) -> Tensor:
        """The last linear map to features (B, F), where there is one and the tower `projects`."""
        return pooled

    @property
    def kernel(self) -> Tensor:
        """The weights that images meet first."""
        parameters = list(self.parameters())
        return next((p for p in parameters if p.ndim == 4), parameters[0])

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights that images meet first; other weights may have another."""
        return self.kernel.dtype

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """What CLIP's norm before block 0 makes of tokens (B, N, D); most models have none."""
        return tokens


def _attended(block: Opened, context: Tensor | Attended) -> Attended:
    return context if isinstance(context, Attended) else Attended(*block.key_value(block.norm(context)))


def _advance_opened(
    block: Opened,
    x: Tensor,
    contexts: Sequence[Context],
    mask: Tensor | None,
    read: Pick | None,
    places: Places | None,
) -> Tensor:
    """The block's own arithmetic for `x`, with the contexts' keys and values beside those of `x`."""
    known = [context for context in contexts if isinstance(context, Attended)]
    length = x.shape[1]
    x, own = (x, x) if read is None else beside(x, read)
    # Normed tokens enter what is added to few blocks' tokens.
    y_too = None if isinstance(block.out, Out) and block.out.before is None else read
    if len(known) == len(contexts):
        y = block.norm(x)
        all_y, y = (y, y) if y_too is None else beside(y, y_too)
        q, k, v = block.projected(all_y)
    else:
        y, (q, k, v) = _packed(block, x, [context for context in contexts if isinstance(context, Tensor)])
        y = y if y_too is None else y_too(y)
    bias = None
    if places is not None:
        if block.turn is not None:
            q, k = block.turn(q, places), _turned_behind(block.turn, k, places, length)
        if block.bias is not None:
            num_context = k.shape[1] - length + sum(context.keys.shape[1] for context in known)
            bias = F.pad(block.bias(places, length), (num_context, 0))
    if read is not None:
        q = read(q)
        mask = mask if mask is None else read(mask)
        bias = bias if bias is None else read(bias)
    attended = own + block.out(attend(q, k, v, known, together(mask, bias), block.dropout), y)
    attended = attended if block.post1 is None else block.post1(attended)
    found = attended + block.feed(own if block.parallel else attended)
    return found if block.post2 is None else block.post2(found)


def _turned_behind(turn: Callable[[Tensor, Places], Tensor], k: Tensor, places: Places, length: int) -> Tensor:
    """Keys of context, which stay as they are, and of the last `length` tokens, which are turned."""
    num_context = k.shape[1] - length
    return torch.cat([k[:, :num_context], turn(k[:, num_context:], places)], dim=1) if num_context else turn(k, places)


def _packed(block: Opened, x: Tensor, contexts: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """`x` normed, its queries, and keys and values of all that it attends to, norm and products taken together."""
    if all(context.shape[0] == x.shape[0] for context in contexts):
        # Each row has contexts of its own: they stand in it, and nothing need be copied.
        y = block.norm(torch.cat([*contexts, x], dim=1))
        q, k, v = block.projected(y)
        return y[:, -x.shape[1] :], (q[:, -x.shape[1] :], k, v)
    packing = Packing(x.shape[:2], tuple(context.shape[:2] for context in contexts))
    y = block.norm(torch.cat([each.flatten(0, 1) for each in (x, *contexts)])[None])
    projected = [each.squeeze(0) for each in block.query_key_value(y)]
    return packing.own(y.squeeze(0)), packing.spread(*projected)


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


def why_hooked(*modules: nn.Module) -> str | None:
    """A reason not to open modules whose forward hooks would then be passed by."""
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{type(module).__name__} has forward hooks, which must see every token"
    return None


def without(model: Any, *parts: str) -> Any:
    """A second view of `model` that shares its tensors and lacks `parts`; changes to it leave `model` alone."""
    view = copy.copy(model)
    view._modules = {name: None if name in parts else part for name, part in model._modules.items()}
    return view
