"""What the projections of an opened block give, changed behind their products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

Behind = Callable[[Sequence[Tensor], str], tuple[Tensor, ...]]


def behind_projections(block: Any, function: Behind) -> Any:
    """An opened block with something else in place of what its projections give.

    Args:
        block: opened.
        function: queries, keys and values, or keys and values alone, (B, N, heads, d) each or one (B, N, n, heads, d),
            and their names, to what takes their place.
    """
    query_key_value, key_value = block.query_key_value, block.key_value
    return replace(
        block,
        query_key_value=lambda y: function(query_key_value(y), "qkv"),
        key_value=lambda y: function(key_value(y), "kv"),
    )
