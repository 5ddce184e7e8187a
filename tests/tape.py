"""A captured step acted out on the CPU: the operations of one call, done again without a line of Python between them.

As with a CUDA graph, a replay reads what its inputs hold by then, and leaves what it gives where the capture left it.
What Python would have decided or kept meanwhile shows as a difference from a step that runs as it is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Operations with their arguments and what they gave."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.own: set[int] = set()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        assert func.name() != "aten::_local_scalar_dense", "a captured step reads a value of its device"
        for tensor in given:
            # Whatever is there beforehand is to be as it was when the capture is over.
            place = tensor.untyped_storage().data_ptr()
            # A batch norm changes its running statistics, which its schema does not say.
            changes = func._schema.is_mutable or "batch_norm" in func.name()
            if changes and place not in self.own and place not in self.before:
                self.before[place] = (tensor, tensor.clone())
        found = func(*args, **kwargs)
        places = {tensor.untyped_storage().data_ptr() for tensor in given}
        new = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        new = [leaf for leaf in new if leaf.untyped_storage().data_ptr() not in places]
        self.own |= {leaf.untyped_storage().data_ptr() for leaf in new}
        self.steps.append((func, args, kwargs, new))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        """Do it all again."""
        for func, args, kwargs, new in self.steps:
            if not new and not func._schema.is_mutable:
                continue
            found = func(*args, **kwargs)
            leaves = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
            for place, value in zip(new, leaves, strict=False):
                place.copy_(value)


class TapeRecorder:
    """Captures with a `Tape`."""

    def __init__(self) -> None:
        self.captured = 0
        self.replayed = 0

    def warm(self, call: Callable[[], Any]) -> Any:
        return call()

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        state = torch.get_rng_state()
        with Tape() as tape:
            found = call()
        torch.set_rng_state(state)
        with torch.no_grad():
            for tensor, value in tape.before.values():
                tensor.copy_(value)
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return found, replay
