"""Switches of speed and memory that hold for as long as a call does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from vpt.errors import VptError
from vpt.model import Prompted

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
    try:
        for side in sides:
            if recompute != "none":
                side.tower.recompute = recompute
            if compile:
                side.loop = _compiled(side.loop)
        yield
    finally:
        for side, (loop, kept) in zip(sides, before, strict=True):
            side.loop, side.tower.recompute = loop, kept
        if compile:
            # Otherwise this model's graphs would stay in memory, and count towards the next one's.
            torch.compiler.reset()


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    # These take seconds to import, and a run that compiles nothing does without.
    from torch._dynamo import config
    from torch._dynamo.exc import TorchDynamoException

    fast = torch.compile(loop, fullgraph=True, **COMPILER)

    @wraps(loop)
    def run(*args: Any, **options: Any) -> Any:
        try:
            with config.patch(recompile_limit=GRAPHS):
                return fast(*args, **options)
        except TorchDynamoException as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise VptError(f"torch cannot compile this backbone ({reason}): leave compile out.") from error

    return run
