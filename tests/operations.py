"""How many operations a call gives to the device, which is what it waits for where each of them is small."""

from collections import Counter
from collections.abc import Callable
from typing import Any

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


def operations(call: Callable[[], Any]) -> Counter[str]:
    """Of `call`, by name."""
    with Operations() as counted:
        call()
    return counted.found
