"""Relative positions of transformers' BEiT and Data2Vec: numbers that are added to scores of two patches."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from vpt.towers.places import Places


def bias_of(block: Any, places: Places, length: int) -> Tensor:
    """The biases of a layer, and those that all layers share, of a sequence of `length`, (heads, length, length)."""
    module, shared = _module(block), places.table
    own = None if module is None else module(module.window_size)[0]
    found = own if shared is None else shared if own is None else own + shared
    if found is None:
        return block.layernorm_before.weight.new_zeros(1, length, length)
    return places.spread(found, length)


def run_biased(block: Any, x: Tensor, mask: Tensor | None, places: Places) -> Tensor:
    """A layer on tokens (B, N, D); given all biases in place of its own where there are tokens without a place."""
    data2vec = type(block).__name__ == "Data2VecVisionLayer"
    told = "relative_position_bias" if data2vec else "attention_mask"
    if mask is None and places.index is None and x.shape[1] == places.count:
        module = _module(block)
        side = getattr(block, "patch_size", None) or (
            1 if module is None else block.attention.attention.config.patch_size
        )
        size = None if module is None else tuple(side * each for each in module.window_size)
        shared = None if places.table is None else places.table[None]
        found = block(x, **{told: shared}, resolution=size)
    else:
        bias = bias_of(block, places, x.shape[1])[None]
        found = _without_bias(block)(x, **{told: bias if mask is None else bias + mask})
    tokens: Tensor = found[0] if data2vec else found
    return tokens


def _module(block: Any) -> Any:
    """The module that holds a layer's own biases, or None."""
    if type(block).__name__ == "Data2VecVisionLayer":
        attn = block.attention.attention
        return attn.relative_position_bias if attn.has_relative_position_bias else None
    return block.relative_position_bias


def _without_bias(block: Any) -> Any:
    """A second view of a layer, whose attention adds what it is given and nothing of its own."""
    view = copy.copy(block)
    if type(block).__name__ != "Data2VecVisionLayer":
        view._modules = {**block._modules, "relative_position_bias": None}
        return view
    attn = copy.copy(block.attention.attention)
    attn.has_relative_position_bias = False
    attention = copy.copy(block.attention)
    attention._modules = {**attention._modules, "attention": attn}
    view._modules = {**block._modules, "attention": attention}
    return view
