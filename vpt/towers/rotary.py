"""Rotary positions: queries and keys of patches are turned by where the patches stand, all others stay as they are.

Su et al., "RoFormer", 2021; of two dimensions as in EVA-02 (Fang et al., 2023) and Heo et al., ECCV 2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.towers.places import Places


def table_of(sin: Tensor, cos: Tensor, prefix: int) -> Tensor:
    """Sines and cosines of patches, (…, N, d) each, as those of prefix, patches and a token without a place.

    Returns:
        (…, prefix + N + 1, 2 d): sines, then cosines; of all but the patches of a turn by nothing.
    """
    around = (0, 0, prefix, 1)
    return torch.cat([F.pad(sin, around, value=0.0), F.pad(cos, around, value=1.0)], dim=-1)


def rows(table: Tensor, places: Places, length: int) -> Tensor:
    """Those of `table`, (…, n + 1, 2 d), of a sequence of `length` tokens, (…, length, 2 d)."""
    if places.index is None and length == places.count:
        return table[..., :length, :]
    return table.index_select(-2, places.of(length, table))


def turned(x: Tensor, turns: Tensor, half: bool) -> Tensor:
    """Queries or keys (B, L, heads, d) turned.

    Args:
        x: queries or keys.
        turns: sines and cosines, (L, 2 d), (heads, L, 2 d) or (B, 1 or heads, L, 2 d).
        half: the two numbers that are turned together stand half of d apart; otherwise they are neighbours.
    """
    sin, cos = (turns if turns.ndim > 2 else turns[None]).transpose(-2, -3).chunk(2, dim=-1)
    if half:
        first, second = x.chunk(2, dim=-1)
        across = torch.cat([-second, first], dim=-1)
    else:
        across = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return (x * cos + across * sin).to(x.dtype)
