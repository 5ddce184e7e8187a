"""What a case is, and how its times, operations and saved bytes are measured."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

REPEATS = 5


@dataclass(frozen=True)
class Setting:
    """What is measured on, and how often.

    Attributes:
        device: "cpu" or "cuda".
        dtype: "float32", or "bfloat16" for autocast.
        compiled: whether `torch.compile(fullgraph=True)` is applied to everything that is timed.
        threads: of the CPU. With one, time is that which the process spends on it, whoever else is at work;
            with more it is the wall clock, for which the machine must be idle.
        repeats: how often everything is measured; None for 5 times, or fewer where that takes long.
        batch: images a batch; None for what a part thinks best.
        backbones: in place of those of a part.
        prompts: how many of them, in place of a part's own numbers.
        methods: those alone, of a part's own.
        families: those alone, of the part that is about them.
        classes: how many of them, in place of a part's own numbers.
        tasks: how many of them a bank has, in place of a part's own numbers.
        quick: a tiny model, to see that all of it runs.
    """

    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    threads: int = 1
    repeats: int | None = None
    batch: int | None = None
    backbones: tuple[str, ...] = ()
    prompts: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    tasks: tuple[int, ...] = ()
    quick: bool = False

    @property
    def clock(self) -> str:
        """What time is, in words."""
        if self.device == "cuda":
            return "CUDA events"
        return "CPU time of the process" if self.threads == 1 else "wall clock"

    @property
    def has_targets(self) -> bool:
        """Whether the targets, which are of plain float32 on a CPU, are for this setting."""
        return (self.device, self.dtype, self.compiled, self.quick) == ("cpu", "float32", False, False)

    def wants(self, method: str) -> bool:
        """Whether a method is to be measured."""
        return not self.methods or method in self.methods

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of forward passes."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16")

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`function`, compiled if that is asked for; a graph break is an error."""
        return torch.compile(function, fullgraph=True, dynamic=False) if self.compiled else function

    def now(self) -> float:
        """A time in seconds, after all work so far, of which differences count."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() if self.threads == 1 else time.perf_counter()

    def seconds(self, call: Callable[[], Any]) -> float:
        """How long `call` takes."""
        if self.device != "cuda":
            start = self.now()
            call()
            return self.now() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000


@dataclass(frozen=True)
class Run:
    """One of the things that stand side by side.

    Attributes:
        call: what is timed.
        eager: the same without compilation, of which operations are counted; None counts none.
        forward: its forward pass, which returns the loss, of which saved bytes are counted; None counts none.
        own_clock: `call` returns the seconds that count, in place of being timed.
        items: images that it takes in, where not those of the case.
    """

    call: Callable[[], Any]
    eager: Callable[[], Any] | None = None
    forward: Callable[[], Tensor] | None = None
    own_clock: bool = False
    items: int | None = None


@dataclass(frozen=True)
class Ratio:
    """`over` / (`times` · `under`), of seconds, floating-point operations or bytes saved for the backward pass."""

    name: str
    over: str
    under: str
    times: float = 1.0
    of: Literal["seconds", "flops", "saved"] = "seconds"
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Case:
    """Things that are measured in turns, and what is made of them.

    Attributes:
        facts: what tells this case from the others of its part, e.g. {"model": "ViT-B/16", "prompts": 10}.
        runs: by name.
        ratios: of two runs each.
        items: images (or texts) that a run takes in.
        constants: tensors that are there anyway, weights above all, and do not count as saved.
        budget: seconds after which no further repeat is begun, but for the second, where the setting does not say.
        note: what is to be told beside the figures.
    """

    facts: Mapping[str, Any]
    runs: Mapping[str, Run]
    ratios: Sequence[Ratio]
    items: int
    constants: Sequence[Tensor] = field(default=(), repr=False)
    budget: float = math.inf
    note: str = ""


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """Everything about a case, as JSON holds it; times are in seconds, "low" and "high" the extremes of repeats."""
    counted = {name: flops(run.eager) for name, run in case.runs.items() if run.eager}
    saved = {name: saved_bytes(run.forward, case.constants) for name, run in case.runs.items() if run.forward}
    timers = {name: run.call if run.own_clock else repeated(run.call, setting) for name, run in case.runs.items()}
    budget = math.inf if setting.repeats else case.budget
    # What was compiled so far are objects by the million: a collection that went through them would fall into whatever
    # is timed then.
    gc.collect()
    gc.freeze()
    try:
        times = interleave(timers, setting.repeats or REPEATS, budget)
    finally:
        gc.unfreeze()
    exact = {"flops": counted, "saved": saved}
    ratios = {}
    for ratio in case.ratios:
        if ratio.of == "seconds":
            pairs = zip(times[ratio.over], times[ratio.under], strict=True)
            values = [over / (ratio.times * under) for over, under in pairs]
        else:
            values = [exact[ratio.of][ratio.over] / (ratio.times * exact[ratio.of][ratio.under])]
        ratios[ratio.name] = spread(values) | _judged(ratio, median(values))
    return {
        "facts": dict(case.facts),
        "items": case.items,
        "repeats": min(map(len, times.values())),
        "note": case.note,
        "seconds": {name: spread(values) for name, values in times.items()},
        "items_per_second": {
            name: (case.runs[name].items or case.items) / median(values) for name, values in times.items()
        },
        "flops": counted,
        "saved_bytes": saved,
        "ratios": ratios,
    }


def interleave(
    timers: Mapping[str, Callable[[], float]], repeats: int, budget: float = math.inf
) -> dict[str, list[float]]:
    """The times of each of `timers`, called in turns, so that what disturbs the machine disturbs all of them.

    Every repeat begins with another one, since each finds the caches as the one before left them. After the second
    none is begun once `budget` seconds have gone by.
    """
    names = list(timers)
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        if repeat >= 2 and sum(map(sum, times.values())) > budget:
            break
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(timers[name]())
    return times


def repeated(call: Callable[[], Any], setting: Setting, least: float = 0.1) -> Callable[[], float]:
    """A timer of `call`, which by then is warm, and is called as often as it takes to fill `least` seconds."""
    first = setting.seconds(call)
    # What is long is not timed once more only to find that once is enough.
    count = 1 if first > 10 * least else max(1, round(least / max(setting.seconds(call), 1e-6)))

    def many() -> None:
        for _ in range(count):
            call()

    return lambda: setting.seconds(many) / count


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of `call`, a multiplication and an addition being two.

    Attention is counted as the matrix products that it consists of: fused kernels repeat some of them in their
    backward pass, which is their own affair and differs between devices.
    """
    with _attention_taken_apart(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@contextmanager
def _attention_taken_apart() -> Iterator[None]:
    """Matrix products are seen, also those of torch's module of attention, which is one operation without gradients."""
    as_one = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(as_one)


def saved_bytes(forward: Callable[[], Tensor], constants: Iterable[Tensor] = ()) -> int:
    """Bytes that `forward` keeps for the backward pass, each storage once and whole; `constants` do not count."""
    known = {tensor.untyped_storage().data_ptr() for tensor in constants}
    # The storages themselves are kept here too, so that no address is given to another one meanwhile.
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        # Itself, an output that its own node keeps would keep that node, and never be freed.
        return tensor.detach()

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(storage.nbytes() for storage in kept.values())


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and extremes."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def _judged(ratio: Ratio, value: float) -> dict[str, Any]:
    if ratio.at_most is not None:
        return {"target": f"≤ {ratio.at_most}", "met": value <= ratio.at_most}
    if ratio.at_least is not None:
        return {"target": f"≥ {ratio.at_least}", "met": value >= ratio.at_least}
    return {}
