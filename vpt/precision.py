"""Which precision encoders compute in (their own where it is half, and autocast's elsewhere), and losses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


def in_own(weights: Tensor) -> AbstractContextManager[Any]:
    """Without autocast where `weights` are of half precision: it would bring each norm to float32 and back."""
    if weights.dtype in HALF and cast_to(weights.device) is not None:
        return torch.autocast(weights.device.type, enabled=False)
    return nullcontext()


def cast_to(device: torch.device) -> torch.dtype | None:
    """What autocast brings products to on `device`; None where there is none."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is; losses of half precision are rounded too much."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
