"""What attention and the MLP of an opened block are given, changed before their first products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.low_rank_stages import sizes_of, stage_of, with_stage

Function = Callable[[Tensor], Tensor]


def before_attention(block: Any, function: Function) -> Any:
    """An opened block whose queries, keys and values are made of `function` of the normed tokens.

    What else may look at normed tokens, as the gate of some attentions, is given them as they were.
    """
    query_key_value, key_value = block.query_key_value, block.key_value
    return replace(
        block,
        query_key_value=lambda y: query_key_value(function(y)),
        key_value=lambda y: key_value(function(y)),
    )


def before_mlp(block: Any, function: Function) -> Any:
    """An opened block whose MLP is given `function` of the normed tokens."""
    up = stage_of(block, "up")
    return with_stage(block, "up", lambda h: up(function(h)))


def check_stages(encoder: Encoder, name: str, *stages: str, on: str = "image") -> None:
    """Nothing, where something linear can be added to queries, keys and values of every block and to these stages.

    Raises:
        VptError: a block does not show them.
    """
    for layer in range(encoder.depth):
        why = encoder.why_unchanged(layer)
        if why is not None:
            raise VptError(f"{name} cannot be added to block {layer} of the {on} encoder: {why}.")
        for stage in stages:
            sizes_of(encoder, layer, stage, on, name)
