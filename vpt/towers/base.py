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
from vpt.towers.attention import Attended, attend, heads_of, shared

Context = Tensor | Attended | Sequence[Tensor | Attended] | None
Change = Callable[[int, Any], Any] | None


@dataclass(frozen=True)
class Opened:
    """A pre-norm transformer block, x + out(attention(norm(x))) and then x + feed(x), taken apart.

    Attributes:
        norm: the norm before attention, (B, N, D) to (B, N, D).
        query_key_value: normed tokens to queries, keys and values, (B, heads, N, d) each.
        key_value: normed tokens to keys and values alone.
        out: what attention gives, (B, N, heads · d), and the normed tokens, to what is added to x.
        feed: x to what the MLP adds to it, its norm included.
        dropout: of attention weights, 0 in evaluation mode.
        linear: queries, keys and values are linear in the normed tokens: nothing norms or turns them after.
    """

    norm: Callable[[Tensor], Tensor]
    query_key_value: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    key_value: Callable[[Tensor], tuple[Tensor, Tensor]]
    out: Callable[[Tensor, Tensor], Tensor]
    feed: Callable[[Tensor], Tensor]
    dropout: float = 0.0
    linear: bool = True


class Tower(nn.Module, ABC):
    """A transformer encoder as prompt methods see it: its blocks, and what stands before and after them.

    Attributes:
        width: size D of a token.
        depth: number of blocks.
        num_features: size F of what is read out.
        recompute: what is not kept for the backward pass but computed again there: nothing (None), the MLP of
            each block that can be opened, or each block whole.
    """

    width: int
    depth: int
    num_features: int
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

    def run(self, layer: int, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The library's own block on tokens (B, N, D), with an additive mask, (N, N) or (B, N, N)."""
        block = self.block(layer)
        return block(x) if mask is None else block(x, attn_mask=mask if mask.ndim == 2 else mask.unsqueeze(1))

    def advance(
        self,
        layer: int,
        x: Tensor,
        context: Context = None,
        mask: Tensor | None = None,
        change: Change = None,
    ) -> Tensor:
        """Block `layer` applied to `x`, which also attends to `context`; the context is not advanced.

        Args:
            layer: 0 to depth - 1.
            x: tokens, (B, N, D).
            context: further tokens, (G, M, D) with G a divisor of B, or several such tensors, which count as
                one after another; each row is shared by B / G neighbours of the batch, and its keys and
                values are computed once, or come as `attended` gave them.
            mask: added to the attention scores, (N, M + N) or (B, N, M + N), -inf where a token is not to see
                another; the context's columns come first. Boolean masks are taken too, True where a token is seen.
            change: a method's part in the block: the layer and its `Opened` to another that takes its place.

        Returns:
            (B, N, D)
        """
        contexts = [context] if isinstance(context, Tensor | Attended) else list(context or ())
        if self.recompute == "block" and torch.is_grad_enabled():
            kept: Tensor = checkpoint(self._advance, layer, x, contexts, mask, change, use_reentrant=False)
            return kept
        return self._advance(layer, x, contexts, mask, change)

    def _advance(
        self, layer: int, x: Tensor, contexts: Sequence[Tensor | Attended], mask: Tensor | None, change: Change
    ) -> Tensor:
        part = self.recompute == "mlp" and torch.is_grad_enabled()
        if change is not None or ((contexts or part) and self.why_whole(layer) is None):
            block = self.open(layer) if change is None else change(layer, self.open(layer))
            if part:
                block = replace(block, feed=partial(checkpoint, block.feed, use_reentrant=False))
            return _advance_opened(block, x, contexts, mask)
        return self._advance_whole(layer, x, [c for c in contexts if isinstance(c, Tensor)], mask)

    def _advance_whole(self, layer: int, x: Tensor, contexts: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """The general fallback: the library's block on context and `x` together, of which `x`'s part is kept."""
        both = torch.cat([*(shared(c, len(x)) for c in contexts), x], dim=1) if contexts else x
        num_context = both.shape[1] - x.shape[1]
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(~mask, -torch.inf)
            mask = F.pad(mask, (0, 0, num_context, 0))
        return self.run(layer, both, mask)[:, num_context:]

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to the queries, keys and values of block `layer`, or None where it can."""
        why = self.why_whole(layer)
        return "its queries and keys are normed" if why is None and not self.open(layer).linear else why

    def attended(self, layer: int, context: Tensor) -> Tensor | Attended:
        """What block `layer` makes of a context whatever the tokens are; itself where it cannot be opened."""
        return _attended(self.open(layer), context) if self.why_whole(layer) is None else context

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
    """

    prefix: int
    read: int | None
    patch_size: int
    image_size: tuple[int, int] | None

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens before block 0 (B, N, D), positions added."""

    @abstractmethod
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the pooling, an identity where there is none."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights that images meet first; other weights may have another."""
        parameters = list(self.parameters())
        return next((p for p in parameters if p.ndim == 4), parameters[0]).dtype

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """What CLIP's norm before block 0 makes of tokens (B, N, D); most models have none."""
        return tokens


def _attended(block: Opened, context: Tensor | Attended) -> Attended:
    return context if isinstance(context, Attended) else Attended(*block.key_value(block.norm(context)))


def _advance_opened(block: Opened, x: Tensor, contexts: Sequence[Tensor | Attended], mask: Tensor | None) -> Tensor:
    """The block's own arithmetic for `x`, with the contexts' keys and values beside those of `x`."""
    y = block.norm(x)
    q, k, v = block.query_key_value(y)
    others = [_attended(block, context) for context in contexts]
    o = attend(q, k, v, others, mask, block.dropout)
    x = x + block.out(o.transpose(1, 2).flatten(2), y)
    return x + block.feed(x)


def multihead_projections(
    attn: nn.MultiheadAttention,
) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """`query_key_value` and `key_value` of torch's attention, whose three projections are one parameter."""

    def project(y: Tensor, first: int) -> Any:
        rows = slice(first * attn.embed_dim, None)
        bias = None if attn.in_proj_bias is None else attn.in_proj_bias[rows]
        projected = F.linear(y, attn.in_proj_weight[rows], bias)
        return tuple(heads_of(part, attn.num_heads) for part in projected.split(attn.embed_dim, dim=-1))

    return partial(project, first=0), partial(project, first=1)


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


def check_size(images: Tensor, size: tuple[int, int] | None) -> None:
    """Refuse images of another size than `size`, (height, width) in pixels, None for any."""
    if size and tuple(images.shape[-2:]) != size:
        got, want = ("×".join(map(str, pixels)) for pixels in (images.shape[-2:], size))
        raise VptError(
            f"the backbone takes images of {want} pixels and got {got}: resize them, "
            f"or create it with image_size={images.shape[-1]}."
        )
