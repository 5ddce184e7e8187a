"""Models inside others: compiled, spread over devices, or with adapters of PEFT."""

from __future__ import annotations

from typing import Any

from torch import nn

# Beginnings of the names of modules that the tuners of PEFT put in place of a model's own.
TUNERS = "peft.tuners"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `torch.compile`, DataParallel, DistributedDataParallel and PEFT's, each as often as it is there.

    Adapters of PEFT stay inside it, and are part of the frozen weights.
    """
    inner: Any = model
    for _ in range(8):
        kind = type(inner)
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        elif kind.__module__.startswith("peft.") and hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        else:
            break
    found: nn.Module = inner
    return found


def has_adapters(model: nn.Module) -> bool:
    """Whether PEFT has put modules of its own into a model, which no name says how to make again."""
    return any(type(module).__module__.startswith(TUNERS) for module in model.modules())
