"""Attention in shifted windows (Liu et al., ICCV 2021 and CVPR 2022), with prompts in each window."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.towers.attention import Attended

Sides = tuple[int, int]
Function = Callable[[Tensor], Tensor]

# What the libraries add to the scores of tokens that a shift has brought into one window from two sides of the image.
APART = -100.0


@dataclass(frozen=True)
class Window:
    """A block with attention in windows, taken apart: x + after(out(attention(norm(x)))), and then x + feed(x).

    Attributes:
        norm: before attention; itself in Swin V2, which norms after it.
        project: tokens (B, N, D) to queries, keys and values, (B, N, heads, d) each, normed and scaled where attention
            is by cosine.
        bias: added to the scores of tokens by their relative positions, (heads, A, A) for the A places of a window.
        out: what attention gives, (B, N, heads · d), projected.
        after: what is done with it before it is added to x: drop path, and the norm of Swin V2.
        feed: x to what the MLP adds to it.
        size: height and width of a window.
        shift: height and width of the tokens' grid to how far its windows are moved down and to the right.
        scale: of the scores.
        dropout: of attention weights, 0 in evaluation mode.
        pads_first: an image that windows do not divide is padded before it is shifted, and not after.
    """

    norm: Function
    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    bias: Callable[[], Tensor]
    out: Function
    after: Function
    feed: Function
    size: Sides
    shift: Callable[[Sides], Sides]
    scale: float
    dropout: float = 0.0
    pads_first: bool = False

    def key_value(self, prompts: Tensor) -> Attended:
        """Keys and values of prompts (1 or B, P, D), the same in each window."""
        _, keys, values = self.project(self.norm(prompts))
        return Attended(keys, values)


class Cut(NamedTuple):
    """An image in windows.

    Attributes:
        windows: (B · W, A, D), those of an image one after another.
        padded: height and width that windows divide.
        shift: how far it was shifted.
        apart: added to the scores, (W, A, A), 0 or `APART`; None where nothing is shifted.
    """

    windows: Tensor
    padded: Sides
    shift: Sides
    apart: Tensor | None


def attend_in_windows(block: Window, x: Tensor, prompts: Tensor | Attended | None) -> Tensor:
    """A block on an image's tokens (B, H, W, D), which also attend to the prompts (1 or B, P, D) in their window.

    The prompts are not advanced: of them keys and values are needed alone, once for all windows.
    """
    cut = _cut(block, block.norm(x))
    q, k, v = block.project(cut.windows)
    bias, batch = _bias(block, cut, len(x)), len(x)
    if prompts is not None:
        seen = prompts if isinstance(prompts, Attended) else block.key_value(prompts)
        k = torch.cat([_spread(seen.keys, batch, len(k)), k], dim=1)
        v = torch.cat([_spread(seen.values, batch, len(v)), v], dim=1)
        # Of its own, not to keep for the backward pass those keys and values too that were copied beside the prompts'.
        q = q.contiguous()
        # Prompts have no place in a window.
        bias = F.pad(bias, (seen.keys.shape[1], 0))
    x = x + block.after(_back(block, block.out(_attention(block, q, k, v, bias)), cut, x.shape[1:3]))
    return x + block.feed(x)


def advance_both(block: Window, x: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: a block on an image's tokens (B, H, W, D) and on prompts (1 or B, P, D), which are advanced too.

    The prompts stand before the tokens of each window, and what attention gives them is averaged over the windows of
    their image (Jia et al., ECCV 2022, section 4.2, and their code).
    """
    batch, count = len(x), prompts.shape[1]
    prompts = prompts.to(x.dtype).expand(batch, -1, -1)
    cut = _cut(block, block.norm(x))
    windows = len(cut.windows) // batch
    # Sample by sample, as the windows are: no image's prompts stand in a window of another.
    entering = block.norm(prompts).repeat_interleave(windows, dim=0)
    q, k, v = block.project(torch.cat([entering, cut.windows], dim=1))
    bias = F.pad(_bias(block, cut, batch), (count, 0, count, 0))
    found = block.out(_attention(block, q, k, v, bias))
    of_prompts = found[:, :count].unflatten(0, (batch, windows)).mean(1)
    x = x + block.after(_back(block, found[:, count:], cut, x.shape[1:3]))
    prompts = prompts + block.after(of_prompts)
    return x + block.feed(x), prompts + block.feed(prompts)


def _attention(block: Window, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    found = F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias.to(q.dtype), dropout_p=block.dropout, scale=block.scale
    )
    return found.transpose(1, 2).flatten(2)


def _spread(rows: Tensor, batch: int, count: int) -> Tensor:
    """Rows (1 or B, …) for each of the windows of B images, `count` together."""
    return rows.expand(batch, *rows.shape[1:]).repeat_interleave(count // batch, dim=0)


def _cut(block: Window, y: Tensor) -> Cut:
    """Tokens (B, H, W, D) in windows, shifted."""
    (height, width), shift = block.size, block.shift((y.shape[1], y.shape[2]))
    pad = (0, 0, 0, -y.shape[2] % width, 0, -y.shape[1] % height)
    y = F.pad(y, pad) if block.pads_first else y
    y = torch.roll(y, (-shift[0], -shift[1]), dims=(1, 2)) if any(shift) else y
    y = y if block.pads_first else F.pad(y, pad)
    padded = (y.shape[1], y.shape[2])
    return Cut(_partition(y, block.size), padded, shift, _apart(block.size, shift, padded, y) if any(shift) else None)


def _partition(y: Tensor, size: Sides) -> Tensor:
    """Tokens (B, H, W, D) to (B · W, A, D)."""
    rows = y.unflatten(1, (-1, size[0])).unflatten(3, (-1, size[1]))
    return rows.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _back(block: Window, windows: Tensor, cut: Cut, sides: torch.Size) -> Tensor:
    """The inverse of `_cut`: windows (B · W, A, D) to (B, H, W, D)."""
    rows, columns = (side // size for side, size in zip(cut.padded, block.size, strict=True))
    y = windows.unflatten(1, block.size).unflatten(0, (-1, rows, columns))
    y = y.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    y = y if block.pads_first else y[:, : sides[0], : sides[1]]
    y = torch.roll(y, cut.shift, dims=(1, 2)) if any(cut.shift) else y
    return y[:, : sides[0], : sides[1]]


def _apart(window: Sides, shift: Sides, padded: Sides, like: Tensor) -> Tensor:
    """What keeps tokens from seeing those that a shift has brought to them from the other side, (W, A, A)."""
    region = torch.zeros(padded, device=like.device, dtype=like.dtype)
    spans = [
        (slice(0, -size), slice(-size, -moved), slice(-moved, None)) for size, moved in zip(window, shift, strict=True)
    ]
    for number, (rows, columns) in enumerate((rows, columns) for rows in spans[0] for columns in spans[1]):
        region[rows, columns] = number
    of_window = _partition(region[None, :, :, None], window)[..., 0]
    return (of_window[:, None] != of_window[:, :, None]).to(like.dtype) * APART


def _bias(block: Window, cut: Cut, batch: int) -> Tensor:
    """Of relative positions and shifts, (1 or B · W, heads, A, A)."""
    bias = block.bias()[None]
    if cut.apart is None:
        return bias
    return (bias + cut.apart[:, None]).repeat(batch, 1, 1, 1)


def cosine(q: Tensor, k: Tensor, logit_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, N, heads, d) whose products are Swin V2's scores; `logit_scale` is (heads, 1, 1)."""
    scale = logit_scale.clamp(max=math.log(100.0)).exp().squeeze(-1)
    return F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1)
