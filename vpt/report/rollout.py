"""Attention through all blocks: rollout (Abnar and Zuidema, ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vpt.report.attention import BlockAttention


@dataclass(frozen=True)
class Rollout:
    """What comes of each patch by all blocks together, for B images.

    Attributes:
        read: how much of what is read out comes of each patch, (B, rows, columns), of sum 1.
        prompts: likewise of the prompts after the last block that advances them, their mean; None without such.
        of_prompts: which share of what is read out comes of prompts, (B,).
    """

    read: Tensor
    prompts: Tensor | None
    of_prompts: Tensor


def rollout(blocks: Sequence[BlockAttention]) -> Rollout:
    """Products of the attention of all blocks, each half attention and half the token itself (section 3).

    Prompts that enter before a block come of no patch: what tokens take of them is `of_prompts`.

    Args:
        blocks: all blocks of an encoder, in order.
    """
    flow: Tensor | None = None
    kept_before = prompts_before = None
    of_prompts_rows: Tensor | None = None
    for block in blocks:
        batch, tokens = block.weights.shape[:2]
        everything = torch.arange(tokens, device=block.weights.device)
        kept = everything[~torch.isin(everything, block.prompts)]
        rows = block.weights.new_zeros(batch, tokens, len(kept))
        if flow is None or kept_before is None:
            rows[:, kept] = torch.eye(len(kept), dtype=rows.dtype, device=rows.device)
        else:
            rows[:, kept] = flow[:, kept_before]
            if prompts_before is not None and len(prompts_before) == len(block.prompts):
                # Those that were advanced go on, those of a block of their own come of nothing.
                rows[:, block.prompts] = flow[:, prompts_before]
        mixed = 0.5 * block.weights + 0.5 * torch.eye(tokens, dtype=rows.dtype, device=rows.device)
        flow = mixed @ rows
        kept_before, prompts_before = kept, block.prompts if block.advanced else None
        if block.advanced:
            of_prompts_rows = flow[:, block.prompts]
    assert flow is not None
    last = blocks[-1]
    everything = torch.arange(last.weights.shape[1], device=last.weights.device)
    kept = everything[~torch.isin(everything, last.prompts)]
    patches = torch.isin(kept, last.patches)
    read = flow[:, last.read].mean(1)
    return Rollout(
        _map(read[:, patches], last.grid),
        None if of_prompts_rows is None else _map(of_prompts_rows.mean(1)[:, patches], last.grid),
        1 - read.sum(-1),
    )


def _map(shares: Tensor, grid: tuple[int, int]) -> Tensor:
    return (shares / shares.sum(-1, keepdim=True).clamp(min=1e-12)).unflatten(-1, grid)
