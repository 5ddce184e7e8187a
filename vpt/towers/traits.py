"""What the weights of an encoder do not tell, and without which they are another model."""

from __future__ import annotations

from typing import Any

from torch import nn

from vpt.towers.base import ImageTower, Tower

# Of modules without weights, by a part of the class's name: libraries write them differently.
ACTIVATIONS = {
    "quickgelu": "quick_gelu",
    "gelutanh": "gelu_tanh",
    "newgelu": "gelu_tanh",
    "fastgelu": "gelu_tanh",
    "gelu": "gelu",
    "silu": "silu",
    "relu": "relu",
}


def traits(*towers: Tower) -> dict[str, list[Any]]:
    """Activations, numbers of heads, the epsilons of norms, and which tokens are read: each kind once, sorted."""
    modules = [module for tower in towers for module in tower.modules()]
    images = [tower for tower in towers if isinstance(tower, ImageTower)]
    # transformers' attention has `num_heads` in some families and `num_attention_heads` in others.
    heads = {getattr(module, name, None) for module in modules for name in ("num_heads", "num_attention_heads")}
    return {
        "activations": sorted({name for module in modules if (name := _activation(module))}),
        "heads": sorted(head for head in heads if isinstance(head, int)),
        "eps": sorted({float(module.eps) for module in modules if isinstance(module, nn.LayerNorm)}),
        "read": [tower.read for tower in images],
        "prefix": [tower.prefix for tower in images],
    }


def first_difference(saved: dict[str, list[Any]], here: dict[str, list[Any]]) -> str | None:
    """How the traits of two encoders differ, as the middle of a sentence; None where they agree."""
    for kind, values in saved.items():
        if kind in here and here[kind] != values:
            return f"was trained with {kind} {_shown(values)}, and the backbone loaded here has {_shown(here[kind])}"
    return None


def _activation(module: nn.Module) -> str | None:
    if next(module.parameters(), None) is not None or next(module.children(), None) is not None:
        return None
    name = type(module).__name__.lower()
    if name == "gelu" and getattr(module, "approximate", "none") == "tanh":
        return "gelu_tanh"
    return next((kind for part, kind in ACTIVATIONS.items() if part in name), None)


def _shown(values: list[Any]) -> str:
    return ", ".join("all" if value is None else str(value) for value in values) or "none"
