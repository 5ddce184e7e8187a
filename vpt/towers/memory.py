"""How much memory a model of given sizes takes, before it is made: a config of few bytes may ask for any amount."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psutil

from vpt.errors import VptError

# What the libraries call one thing. Sizes are estimated by the largest that is given under any of the names.
NAMES = {
    "depth": ("depth", "layers", "num_layers", "num_hidden_layers", "attn_pooler_queries", "reg_tokens"),
    "width": ("width", "embed_dim", "hidden_size", "hidden_dim", "projection_dim"),
    "mlp": ("intermediate_size", "mlp_dim"),
    "vocabulary": ("vocab_size",),
    "places": ("context_length", "max_position_embeddings", "force_context_length"),
    "image": ("image_size", "img_size", "force_image_size"),
    "patch": ("patch_size",),
    "classes": ("num_classes", "num_labels", "representation_size"),
}

DEEPEST, LARGEST = 1000, 10**15
BYTES = 4


def check_memory(config: Mapping[str, Any], where: str) -> None:
    """Nothing, if a model of this config, with the parts that are nested in it, fits into this machine's memory.

    Args:
        config: numbers by the names that libraries have for them.
        where: it comes from, to begin the sentence of an error with.

    Raises:
        VptError: it does not fit, or has more blocks than any transformer.
    """
    check_room(_bytes(config, where), f"{where} asks for")


def check_room(size: float, where: str) -> None:
    """Nothing, if `size` bytes fit into this machine's free memory.

    Raises:
        VptError: they do not.
    """
    room = psutil.virtual_memory().available
    if size > room:
        raise VptError(
            f"{where} a model of {size / 1e9:,.1f} GB, and this machine has {room / 1e9:,.1f} GB of memory free: "
            "correct its sizes, or take a larger machine."
        )


def _bytes(config: Mapping[str, Any], where: str) -> float:
    """Of the weights, about; where a size is not given, that of the base models."""
    parts = [part for part in config.values() if isinstance(part, Mapping)]
    nested = sum(_bytes(part, where) for part in parts)
    if not any(name in config for names in NAMES.values() for name in names):
        return nested
    given = {kind: max(_numbers(config, names), default=0) for kind, names in NAMES.items()}
    if given["depth"] > DEEPEST:
        raise VptError(
            f"{where} asks for {given['depth']:,} blocks, and no more than {DEEPEST} make sense: correct it."
        )
    width, patch = given["width"] or 768, min(_numbers(config, NAMES["patch"]), default=16)
    ratio = max(_numbers(config, ("mlp_ratio",)), default=4)
    places = given["places"] + (given["image"] / max(patch, 1)) ** 2
    block = 4 * width**2 + 2 * width * max(given["mlp"], ratio * width)
    outside = given["vocabulary"] + places + given["classes"] + 3 * given["patch"] ** 2
    weights = (given["depth"] or (0 if parts else 12)) * block + outside * width
    return BYTES * weights + nested


def _numbers(config: Mapping[str, Any], names: tuple[str, ...]) -> list[float]:
    values = [config[name] for name in names if name in config]
    flat = [each for value in values for each in (value if isinstance(value, list | tuple) else [value])]
    numbers = [number for number in flat if isinstance(number, int | float) and not isinstance(number, bool)]
    return [min(max(number, 0), LARGEST) for number in numbers]
