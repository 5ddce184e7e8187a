"""What torch's profiler does to kernels: their time by a clock that they read themselves, with it and without."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Programs of a kernel, numbers that each of them works on, and kernels that follow one another in a graph.
PROGRAMS, NUMBERS, KERNELS = 264, 1024, 300
# Products of each number one after another, so that a kernel takes as long as those of a step of texts.
ROUNDS = 400
REPEATS = 9


class Clocks(NamedTuple):
    """Microseconds, by the GPU's own clock.

    Attributes:
        kernel: from the first program's beginning to the last one's end.
        between: from there to the next kernel's first program.
    """

    kernel: float
    between: float


def read(times: Tensor) -> Clocks:
    """Clocks of kernels one after another, whose programs began and ended at `times` (K, P, 2), in nanoseconds."""
    start, end = times[:, :, 0].amin(1), times[:, :, 1].amax(1)
    return Clocks((end - start).double().mean().item() / 1000, (start[1:] - end[:-1]).double().mean().item() / 1000)


def measured() -> tuple[Clocks, Clocks]:
    """Without the profiler, and with it; medians of several replays of a graph."""
    from torch.profiler import ProfilerActivity, profile

    times = torch.zeros(KERNELS, PROGRAMS, 2, dtype=torch.int64, device="cuda")
    graph = _chain(times)

    def replayed(watching: AbstractContextManager[Any]) -> Clocks:
        found = []
        with watching:
            for _ in range(REPEATS):
                graph.replay()
                torch.cuda.synchronize()
                found.append(read(times.cpu()))
        return Clocks(*(median(each) for each in zip(*found, strict=True)))

    # What a device does once, it has done.
    replayed(nullcontext())
    return replayed(nullcontext()), replayed(profile(activities=[ProfilerActivity.CUDA]))


def told(bare: Clocks, watched: Clocks) -> str:
    """One sentence."""
    return (
        f"By clocks read inside of kernels in a captured graph: {bare.kernel:.2f} us each and {bare.between:.2f} us "
        f"between them; with torch's profiler {watched.kernel:.2f} us and {watched.between:.2f} us."
    )


def _chain(times: Tensor) -> torch.cuda.CUDAGraph:
    """A graph of kernels that each wait for the one before, and note when each of their programs begins and ends."""
    import triton
    import triton.language as tl

    @triton.jit
    def now():  # type: ignore[no-untyped-def]
        return tl.inline_asm_elementwise("mov.u64 $0, %globaltimer;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)

    @triton.jit
    def work(given, found, times, node, rounds: tl.constexpr, size: tl.constexpr):  # type: ignore[no-untyped-def]
        start = now()
        program = tl.program_id(0)
        places = program * size + tl.arange(0, size)
        numbers = tl.load(given + places)
        for _ in range(rounds):
            numbers = numbers * 0.999 + 0.5
        tl.store(found + places, numbers)
        tl.debug_barrier()
        end = now()
        note = times + (node * tl.num_programs(0) + program) * 2
        tl.store(note, start)
        tl.store(note + 1, end)

    buffers = torch.randn(2, PROGRAMS * NUMBERS, device="cuda")

    def chain() -> None:
        for node in range(KERNELS):
            work[(PROGRAMS,)](buffers[node % 2], buffers[1 - node % 2], times, node, ROUNDS, NUMBERS)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        chain()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        chain()
    return graph
