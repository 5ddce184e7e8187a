"""Steps that a GPU repeats by itself: captured once as a CUDA graph, and replayed with other values in the same places.

A step of a small model is thousands of kernels of a few microseconds, each of which takes longer to be asked for than
to run. A graph asks for all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

# Calls that run as they are before one is captured: libraries set themselves up, and loops are compiled.
WARM = 3

# Each shape of a batch is a graph of its own, with memory of its own.
GRAPHS = 4


class Recorder(Protocol):
    """How a call is run as a capture wants it, and how it is captured."""

    def warm(self, call: Callable[[], Any]) -> Any:
        """What `call` gives, run so that it may be captured afterwards."""

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """The places of what `call` gives, and what fills them anew from what its inputs hold then."""


class CudaRecorder:
    """CUDA graphs of one device."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def warm(self, call: Callable[[], Any]) -> Any:
        """On a stream of its own, as the nodes that add up gradients keep to the stream that they first met."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = call()
        torch.cuda.current_stream().wait_stream(self.stream)
        return found

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Nothing is computed yet."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            found = call()
        return found, graph.replay


@dataclass
class _Graph:
    inputs: list[Any]
    outputs: Any
    replay: Callable[[], None]


class Graphs:
    """A function of a batch that is called as it is at first, and replayed from then on, for each shape of batch.

    What it gives is overwritten by the next call. It may read no value of the device, and copy nothing to it.

    Args:
        function: of tuples of tensors, and of what is the same for all batches of a shape.
        recorder: of the device.
        failed: called once with the reason why a call cannot be captured; it then always runs as it is.
        warm: calls that run as they are before a shape is captured.
        most: shapes that are captured; further ones run as they are.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        recorder: Recorder,
        *,
        failed: Callable[[str], None],
        warm: int = WARM,
        most: int = GRAPHS,
    ) -> None:
        self.function = function
        self.recorder = recorder
        self.failed = failed
        self.warm = warm
        self.most = most
        self.able = True
        self.seen: dict[Any, int] = {}
        self.graphs: dict[Any, _Graph] = {}

    def __call__(self, batch: Any) -> Any:
        """What the function gives of `batch`."""
        leaves, tree = tree_flatten(batch)
        key = (str(tree), tuple(_kind(leaf) for leaf in leaves))
        graph = self.graphs.get(key)
        if graph is None:
            times = self.seen[key] = self.seen.get(key, 0) + 1
            if not self.able or times <= self.warm or len(self.graphs) == self.most:
                return self.recorder.warm(lambda: self.function(batch)) if self.able else self.function(batch)
            graph = self._captured(leaves, tree)
            if graph is None:
                return self.function(batch)
            self.graphs[key] = graph
        else:
            for place, leaf in zip(graph.inputs, leaves, strict=True):
                if isinstance(leaf, Tensor):
                    place.copy_(leaf, non_blocking=True)
        graph.replay()
        return graph.outputs

    def _captured(self, leaves: list[Any], tree: Any) -> _Graph | None:
        inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        try:
            outputs, replay = self.recorder.capture(lambda: self.function(tree_unflatten(inputs, tree)))
        except RuntimeError as error:
            self.able = False
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.failed(lines[0] if lines else type(error).__name__)
            return None
        return _Graph(inputs, outputs, replay)


def _kind(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf


def make_recorder(device: torch.device) -> Recorder | None:
    """Of the device; None where there is nothing to capture with."""
    return CudaRecorder(device) if device.type == "cuda" else None
