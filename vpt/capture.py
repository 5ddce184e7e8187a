"""Steps that a GPU repeats by itself: captured once as a CUDA graph, and replayed with other values in the same places.

A step of a small model is thousands of kernels of a few microseconds, each of which takes longer to be asked for than
to run. A graph asks for all of them at once.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from vpt.errors import VptError
from vpt.held import holding
from vpt.report.notes import tell

# Calls that run as they are before one is captured: libraries set themselves up, and loops are compiled.
WARM = 3

# So many forward passes take as long as to capture one.
WORTH = 8

# Each shape of a batch is a graph of its own, with inputs and outputs of its own.
GRAPHS = 4

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

# A process captures one graph at a time, whichever of its threads asks for it.
CAPTURING = Lock()


class UncapturableError(RuntimeError):
    """A call cannot be captured."""


class Recorder(Protocol):
    """How a call is run as a capture wants it, and how it is captured."""

    def warm(self, call: Callable[[], Any]) -> Any:
        """What `call` gives, run so that it may be captured afterwards."""

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """The places of what `call` gives, and what fills them anew from what its inputs hold then."""


@cache
def stream_of(device: torch.device) -> torch.cuda.Stream:
    """The one stream of a device on which calls are captured, as libraries keep a workspace for each they have met."""
    return torch.cuda.Stream(device)


class CudaRecorder:
    """CUDA graphs of one device."""

    def __init__(self, device: torch.device) -> None:
        self.stream = stream_of(device)
        self.first: torch.cuda.CUDAGraph | None = None

    def warm(self, call: Callable[[], Any]) -> Any:
        """On a stream of its own, as the nodes that add up gradients keep to the stream that they first met."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            found = call()
        current.wait_stream(self.stream)
        return found

    def capture(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Nothing is computed yet.

        What one graph works in, all of them do, as no two are replayed at a time. Other threads may go on meanwhile: a
        loader that pins the memory of the next batch would end the capture otherwise, and fail with it.
        """
        with CAPTURING:
            torch.cuda.synchronize(self.stream.device)
            graph = torch.cuda.CUDAGraph()
            pool = None if self.first is None else self.first.pool()
            with torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):
                found = call()
        # It keeps the memory, also where the graphs of a stage of training are over.
        self.first = self.first or graph
        return found, graph.replay


@dataclass
class _Graph:
    inputs: list[Any]
    outputs: Any
    replay: Callable[[], None]
    held: list[Any]


class Graphs:
    """A function of a batch that is called as it is at first, and replayed from then on, for each shape of batch.

    What it gives is overwritten by the next call. It may read no value of the device, and copy nothing to it.

    Args:
        function: of tuples of tensors, and of what is the same for all batches of a shape.
        recorder: of the device.
        failed: called once with the reason why a call cannot be captured; it then always runs as it is.
        warm: calls that run as they are before a shape is captured.
        again: likewise of further shapes, for which libraries have set themselves up. What such a call works in stands
            in memory beside that of the graphs.
        most: shapes that are captured; further ones run as they are.
        checked: a context for each capture, which raises `UncapturableError` where it will not do.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        recorder: Recorder,
        *,
        failed: Callable[[str], None],
        warm: int = WARM,
        again: int = WARM,
        most: int = GRAPHS,
        checked: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.function = function
        self.recorder = recorder
        self.failed = failed
        self.warm = warm
        self.again = again
        self.most = most
        self.checked = checked
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
            warm = self.again if self.graphs else self.warm
            if not self.able or times <= warm or len(self.graphs) == self.most:
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
            with holding() as held, self.checked(), drawing_nothing():
                outputs, replay = self.recorder.capture(lambda: self.function(tree_unflatten(inputs, tree)))
        except RuntimeError as error:
            self.able = False
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.failed(lines[0] if lines else type(error).__name__)
            return None
        return _Graph(inputs, outputs, replay, held)


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """Where random numbers are drawn off the device they are put back: a graph would have the same ones for ever.

    Raises:
        UncapturableError: some were.
    """
    before = _drawn()
    yield
    if _drawn()[0] != before[0]:
        _, ours, numpys, torchs = before
        random.setstate(ours)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
        raise UncapturableError("random numbers are drawn on the CPU, anew for each step")


def _drawn() -> tuple[bytes, Any, Any, Tensor]:
    """How far the generators are, to compare, and their states."""
    states: tuple[Any, Any, Tensor] = random.getstate(), np.random.get_state(), torch.get_rng_state()
    return pickle.dumps((states[0], states[1], states[2].numpy())), *states


def _kind(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf


GraphChoice = bool | Literal["auto"]


def recorder_of(accelerator: Accelerator, graph: GraphChoice, *, exchanges: bool) -> Recorder | None:
    """What captures the steps of a run; None where they run as they are, of which the reason is said on a GPU.

    Args:
        accelerator: of the run.
        graph: what was asked for.
        exchanges: the loss looks at the features of all processes.

    Raises:
        VptError: `graph` is True, and they cannot be captured; or it is no choice.
    """
    if graph not in (True, False, "auto"):
        raise VptError(f"graph={graph!r} is not one of auto, true and false.")
    reason = None
    if accelerator.device.type != "cuda":
        reason = "there is no GPU that captures"
    elif accelerator.num_processes > 1 and exchanges:
        reason = "several processes exchange features within a step"
    if reason is None:
        return CudaRecorder(accelerator.device) if graph else None
    if graph is True:
        raise VptError(f"graph=true: steps cannot be captured ({reason}): leave it out.")
    if graph and accelerator.device.type == "cuda":
        tell(f"steps are not captured: {reason}.")
    return None


def repeated(function: Callable[[Any], Any], model: nn.Module, calls: int) -> Callable[[Any], Any]:
    """A forward pass through `model`, without gradients, that is to be called so often.

    It is captured where the model is on a GPU that can, and it pays: the next call overwrites what it gives then.
    """
    device = next(model.parameters()).device
    if device.type != "cuda" or calls <= WORTH:
        return function
    reason = why_hooked(model)
    if reason:
        tell_failed(reason)
        return function
    return Graphs(function, CudaRecorder(device), failed=tell_failed)


def why_hooked(model: nn.Module) -> str | None:
    """Why passes through a model are not captured that hooks look at, or None where none do."""
    for module in model.modules():
        if any(getattr(module, hooks) for hooks in HOOKS):
            return f"{type(module).__name__} has hooks, which a graph would not call"
    return None


def tell_failed(reason: str) -> None:
    """Say why steps run as they are."""
    tell(f"steps are not captured, and run one operation after another: {reason}")
