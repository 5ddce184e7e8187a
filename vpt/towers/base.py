"""A frozen encoder, opened in one place: tokens can be advanced, or merely attended to."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vpt.errors import VptError
from vpt.towers.attention import Attended, shared
from vpt.towers.opened import Context, Opened, advance_in_rows, advance_opened, attended_of
from vpt.towers.picking import Pick
from vpt.towers.places import Places
from vpt.towers.rows import Rows
from vpt.towers.stages import Mlp, Out

Change = Callable[[int, Any], Any] | None


class Tower(nn.Module, ABC):
    """A transformer encoder as prompt methods see it: its blocks, and what stands before and after them.

    Attributes:
        width: size D of a token.
        depth: number of blocks.
        num_features: size F of what is read out.
        placed: attention depends on where tokens stand, and `advance` has to be told by `places`.
        multihead: attention of its own blocks is torch's `MultiheadAttention`.
        recompute: what is not kept for the backward pass but computed again there: nothing (None), the MLP of
            each block that can be opened, or each block whole.
    """

    width: int
    depth: int
    num_features: int
    placed: bool = False
    multihead: bool = False
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
        rows: Rows | None = None,
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
            rows: in which attention takes the tokens of `x`, without any context; the mask, (B · R, L, L), is of those.

        Returns:
            (B, N, D), N = L without `read`.

        Raises:
            VptError: a tower that is `placed` is not told where tokens stand; or there are rows beside a context or
                places.
        """
        if self.placed and places is None:
            raise VptError(
                f"attention of a {type(self).__name__} depends on where tokens stand: say places=…, which "
                "tower.embedded(images) gives beside the tokens."
            )
        contexts = list(context) if isinstance(context, Sequence) else [] if context is None else [context]
        if rows is not None and (contexts or places is not None):
            raise VptError("tokens that attention takes in rows have neither context nor places: leave out rows=….")
        if self.recompute == "block" and torch.is_grad_enabled():
            kept: Tensor = self.computed_again(
                layer, change, self._advance, layer, x, contexts, mask, change, read, places, rows
            )
            return kept
        return self._advance(layer, x, contexts, mask, change, read, places, rows)

    def computed_again(self, layer: int, change: Change, function: Callable[..., Any], *given: Any) -> Any:
        """`function(*given)`, a part of block `layer`, which the backward pass computes again with the same numbers.

        What draws none, a frozen block with nothing of a method in it, is spared the state of random numbers, which
        would have to be read from a device.
        """
        draws = change is not None or any(module.training for module in self.block(layer).modules())
        return checkpoint(function, *given, use_reentrant=False, preserve_rng_state=draws)

    def _advance(
        self,
        layer: int,
        x: Tensor,
        contexts: Sequence[Context],
        mask: Tensor | None,
        change: Change,
        read: Pick | None,
        places: Places | None,
        rows: Rows | None,
    ) -> Tensor:
        part = self.recompute == "mlp" and torch.is_grad_enabled()
        if change is not None or ((contexts or part or read or rows) and self.why_whole(layer) is None):
            block = self.open(layer) if change is None else change(layer, self.open(layer))
            if part:
                block = replace(block, feed=partial(self.computed_again, layer, change, block.feed))
            if rows is not None:
                return advance_in_rows(block, x, mask, read, rows)
            return advance_opened(block, x, contexts, mask, read, places, changed=change is not None)
        x = self._advance_whole(layer, x if rows is None else rows.spread(x), contexts, mask, places)
        x = x if rows is None else rows.gathered(x)
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

    def leaner_opened(self, layer: int, *, prompted: bool, trained: bool = True) -> bool:
        """Whether a pass says less to a device where block `layer` is opened, with no context beside.

        Args:
            layer: 0 to depth - 1.
            prompted: there are tokens without a place among those of the block, for which biases have to be widened.
            trained: gradients come back through it. Where none do, libraries' blocks are as lean, but for torch's own
                attention: it leaves one kernel of attention for two products and a softmax where a GPU prefers cuDNN's.
        """
        if self.why_whole(layer) is not None or not (trained or self.multihead):
            return False
        block = self.open(layer)
        # Several attentions, or one that shares its projections with the MLP, are put together when they are opened.
        return (block.joint is not None or isinstance(block.out, Out)) and (prompted or block.bias is None)

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
        return attended_of(block, context)

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
        # Asked for in each pass, and mostly among the first parameters. A loop is what older compilers follow too.
        for parameter in self.parameters():
            if parameter.ndim == 4:
                return parameter
        return next(self.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights that images meet first; other weights may have another."""
        return self.kernel.dtype

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """What CLIP's norm before block 0 makes of tokens (B, N, D); most models have none."""
        return tokens


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
