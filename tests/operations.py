"""How many operations a call gives to the device, which is what it waits for where each of them is small."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Other views of the same numbers, and room for new ones: nothing that a device would be asked for.
FREE = {
    *(
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "reshape",
        "t",
        "transpose",
        "permute",
        "expand",
        "squeeze",
        "unsqueeze",
    ),
    *("slice", "select", "split", "split_with_sizes", "unbind", "narrow", "diagonal", "as_strided", "alias", "detach"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh"),
}


class Operations(TorchDispatchMode):
    """Counts them by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        self.found[name] += name not in FREE
        return func(*args, **(kwargs or {}))


class Fused(torch.autograd.Function):
    """Attention as one operation, and one backward: shapes alone, which is all that torch's "meta" device has."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        return _of_heads(query, value.shape[-1]).zero_()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
        query, key, value = ctx.saved_tensors
        return _of_heads(query).zero_(), _of_heads(key), _of_heads(value)


def _of_heads(like: Tensor, width: int | None = None) -> Tensor:
    """(B, H, L, D) that lies token by token, as kernels leave it."""
    *batch, heads, length, depth = like.shape
    return like.new_empty(*batch, length, heads, width or depth).transpose(-3, -2)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """In the place of torch's attention, which on "meta" is a dozen operations, and one in the kernels of a device."""
    return Fused.apply(query, key, value)


def operations(call: Callable[[], Any]) -> Counter[str]:
    """Of `call`, by name."""
    with Operations() as counted:
        call()
    return counted.found
