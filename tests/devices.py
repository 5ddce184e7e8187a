"""A device that is not the CPU, acted out by torch's "meta", whose tensors have shapes and no values.

What was left on the CPU shows as operands of two devices, and to read a value, for which a GPU would be waited for, is
an error.
"""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):
    """Operations on tensors of two devices are errors; copies, and numbers that are tensors, are not.

    Args:
        warm: copies to the device are errors too, as all that is brought there once is there.
    """

    def __init__(self, *, warm: bool = False) -> None:
        super().__init__()
        self.warm = warm

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Without gradients `to` is not taken apart.
        copies = "copy" in func.name() or func.name().startswith("aten::to.")
        given = {leaf.device.type for leaf in _tensors((args, kwargs)) if leaf.ndim or copies}
        found = func(*args, **(kwargs or {}))
        if not copies:
            assert len(given) < 2, f"{func.name()} is given tensors on {given}"
        elif self.warm:
            there = {leaf.device.type for leaf in _tensors(found)}
            assert len(given | there) < 2, f"{func.name()} copies from {given} to {there}"
        return found


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
