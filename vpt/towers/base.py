"""A frozen encoder, opened in one place: tokens can be advanced, or merely attended to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.preprocessing import Preprocessing

Context = Tensor | Sequence[Tensor] | None


@dataclass(frozen=True)
class Backbone:
    """A tower and where it came from.

    Attributes:
        tower: the frozen encoder.
        preprocessing: what it was trained to see.
        name: "library/model", which `vpt.towers.load.load` takes; None for a live model without a name.
        options: the options that name was or would be loaded with.
        revision: the commit of the hub that the weights were loaded from, where they were.
    """

    tower: Tower
    preprocessing: Preprocessing
    name: str | None
    options: dict[str, Any]
    revision: str | None = None


class Tower(nn.Module, ABC):
    """A transformer encoder as prompt methods see it.

    Attributes:
        width: size D of a token.
        depth: number of blocks.
        num_features: size F of what `readout` gives.
        prefix: how many tokens stand before the patches (class, distilled and register tokens).
        read: `readout` looks at the first `read` tokens alone; None where it looks at all of them.
        patch_size: side of a patch, in pixels.
        image_size: height and width that `embed` takes, in pixels; None for any.
    """

    width: int
    depth: int
    num_features: int
    prefix: int
    read: int | None
    patch_size: int
    image_size: tuple[int, int] | None

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens before block 0 (B, N, D), positions added."""

    @abstractmethod
    def block(self, layer: int) -> nn.Module:
        """The library's own block `layer`, which maps (B, N, D) to (B, N, D)."""

    @abstractmethod
    def readout(self, x: Tensor) -> Tensor:
        """Tokens after the last block (B, N, D) to features (B, F): final norm, pooling, projection."""

    @abstractmethod
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the pooling, an identity where there is none."""

    @abstractmethod
    def why_whole(self, layer: int) -> str | None:
        """Why block `layer` cannot be opened, or None where it can."""

    @abstractmethod
    def attend(self, layer: int, x: Tensor, context: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """`advance` for a block that can be opened; `context` holds at least one tensor."""

    def advance(self, layer: int, x: Tensor, context: Context = None, mask: Tensor | None = None) -> Tensor:
        """Block `layer` applied to `x`, which also attends to `context`; the context is not advanced.

        Args:
            layer: 0 to depth - 1.
            x: tokens, (B, N, D).
            context: further tokens, (B or 1, M, D), or several such tensors, which count as one after
                another; a context of one row is shared by the batch, and its keys and values are
                computed once.
            mask: which keys a token may see, as `scaled_dot_product_attention` takes it: boolean (True:
                seen) or additive, broadcastable to (B, heads, N, M + N); the context's columns come first.

        Returns:
            (B, N, D)
        """
        contexts = [context] if isinstance(context, Tensor) else list(context or ())
        if not contexts:
            return self.block(layer)(x) if mask is None else self.attend(layer, x, (), mask)
        if self.why_whole(layer) is None:
            return self.attend(layer, x, contexts, mask)
        return advance_whole(self.block(layer), x, contexts, mask)

    def path(self, layer: int) -> str:
        """Which way block `layer` takes a context, and why."""
        why = self.why_whole(layer)
        return "opened: a context costs its keys and values" if why is None else f"whole block: {why}"


def advance_whole(block: Callable[..., Tensor], x: Tensor, contexts: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """The general fallback: the library's block on context and `x` together, of which `x`'s part is kept."""
    both = torch.cat([*(c.expand(len(x), -1, -1) for c in contexts), x], dim=1)
    num_context = both.shape[1] - x.shape[1]
    if mask is None:
        return block(both)[:, num_context:]
    seen = F.pad(mask, (0, 0, num_context, 0), value=mask.dtype == torch.bool)
    return block(both, attn_mask=seen)[:, num_context:]


def why_hooked(*modules: nn.Module) -> str | None:
    """A reason not to open modules whose forward hooks would then be passed by."""
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{type(module).__name__} has forward hooks, which must see every token"
    return None
