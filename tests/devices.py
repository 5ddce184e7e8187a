"""A device that is not the CPU, acted out by torch's "meta", whose tensors have shapes and no values.

What was left on the CPU shows as operands of two devices, and to read a value, for which a GPU would be waited for, is
an error.
"""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):
    """Operations on tensors of two devices are errors; copies, and numbers that are tensors, are not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim]
        devices = {tensor.device.type for tensor in tensors}
        assert len(devices) < 2 or "copy" in func.name(), f"{func.name()} is given tensors on {devices}"
        return func(*args, **(kwargs or {}))
