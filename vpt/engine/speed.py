"""Switches of speed and memory that hold for as long as a call does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from vpt.errors import VptError
from vpt.model import Prompted
from vpt.report.notes import tell

P = ParamSpec("P")
R = TypeVar("R")

RECOMPUTE = ("none", "mlp", "block")

# With random numbers of its own a compiled dropout would not draw what it draws uncompiled.
COMPILER: dict[str, Any] = {"backend": "inductor", "options": {"fallback_random": True}}

# With and without gradients, in each precision and for sizes that differ the loops are graphs of their own; captions
# come in many sizes, and one graph too many would end the run.
GRAPHS = 64


def switched(function: Callable[Concatenate[Prompted, P], R]) -> Callable[Concatenate[Prompted, P], R]:
    """`function(model, …)`, which runs with what its options `compile` and `recompute` ask for."""

    @wraps(function)
    def run(model: Prompted, *args: P.args, **options: P.kwargs) -> R:
        compiled, recompute = bool(options.get("compile", False)), str(options.get("recompute", "none"))
        with switches(model, compile=compiled, recompute=recompute):
            return function(model, *args, **options)

    return run


@contextmanager
def switches(model: Prompted, *, compile: bool = False, recompute: str = "none") -> Iterator[None]:
    """The model's towers and block loops as asked for; afterwards as they were.

    Args:
        model: what is trained or measured.
        compile: run the block loops through `torch.compile`, without graph breaks.
        recompute: "mlp" or "block" as in `Tower.recompute`, for both towers; "none" leaves them as they are.

    Raises:
        VptError: another word for `recompute`; and, once the loops run, blocks that torch cannot compile.
    """
    if recompute not in RECOMPUTE:
        raise VptError(f"recompute={recompute!r} is not one of {', '.join(RECOMPUTE)}.")
    sides: list[Any] = [model] if model.text is None else [model, model.text]
    before = [(side.loop, side.tower.recompute) for side in sides]
    compiler = Compiler() if compile else None
    try:
        for side in sides:
            if recompute != "none":
                side.tower.recompute = recompute
            if compiler:
                side.loop = compiler.compiled(side.loop)
        yield
    finally:
        for side, (loop, kept) in zip(sides, before, strict=True):
            side.loop, side.tower.recompute = loop, kept
        if compiler:
            compiler.tell()
            # Otherwise this model's graphs would stay in memory, and count towards the next one's.
            torch.compiler.reset()


class Compiler:
    """Compiles loops, and knows how long it took.

    Attributes:
        seconds: that calls took in which something was compiled.
        graphs: how many there are.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.graphs = 0

    def tell(self) -> None:
        """Say what was compiled."""
        if self.graphs:
            tell(f"compiled the block loops: {self.graphs} graphs in {self.seconds:.0f} s.")

    def compiled(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        """`loop`, compiled without graph breaks when it is first called, and anew for shapes of another kind."""
        # These take seconds to import, and a run that compiles nothing does without.
        from torch._dynamo import config
        from torch._dynamo.exc import TorchDynamoException
        from torch._dynamo.utils import counters

        fast = torch.compile(loop, fullgraph=True, **COMPILER)

        @wraps(loop)
        def run(*args: Any, **options: Any) -> Any:
            started, before = time.perf_counter(), counters["stats"]["unique_graphs"]
            try:
                with config.patch(recompile_limit=GRAPHS):
                    found = fast(*args, **options)
            except TorchDynamoException as error:
                reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise VptError(f"torch cannot compile this backbone ({reason}): leave compile out.") from error
            new = counters["stats"]["unique_graphs"] - before
            if new:
                self.graphs += new
                self.seconds += time.perf_counter() - started
            return found

        return run
