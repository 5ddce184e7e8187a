"""A training step on a GPU: eager, captured, compiled and captured; fast and plain; against frozen forward passes."""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vpt
from benchmarks import gpu_clock, gpu_fit
from benchmarks.gpu_table import FIT, MODES, Row, judged, table, told
from benchmarks.text import class_names
from vpt.capture import CudaRecorder, Graphs

IMAGE, PAIR = "timm/vit_base_patch16_224", "open_clip/ViT-B-16"
IMAGES = 64
# Method, prompts or classes, images of a step, and whether their features are there before. Each method comes once
# before further numbers of prompts and classes, as time may be over.
CASES = (
    ("vpt-deep", 50, IMAGES, False),
    ("coop", 100, 32, True),
    ("cocoop", 100, 8, True),
    ("promptsrc", 100, 32, False),
    ("maple", 100, 32, False),
    ("ivlp", 100, 32, False),
    ("coop", 1000, 32, True),
    ("vpt-deep", 200, IMAGES, False),
    ("vpt-deep", 10, IMAGES, False),
)
METHODS = tuple(dict.fromkeys(method for method, *_ in CASES))
# Steps are timed one after another, as training takes them, and so many times.
STEPS, REPEATS = 10, 5
# The profiler's own start takes milliseconds, in which the GPU waits: so many steps of a profile do not count.
BEFORE = 2


@dataclass(frozen=True)
class Job:
    """A method on a backbone, and which ways of running it are measured."""

    what: str
    backbone: str
    method: str
    options: dict[str, Any]
    classes: int
    batch: int
    cached: bool
    fast: Sequence[str] = ("eager", "captured")
    plain: Sequence[str] = ("eager", "captured")


def jobs(methods: Sequence[str], prompts: Sequence[int], classes: Sequence[int], *, compiled: bool) -> Iterator[Job]:
    """All, or those of some methods, numbers of prompts and of classes."""

    def wanted(method: str, of: Sequence[int], number: int) -> bool:
        return (not methods or method in methods) and (not of or number in of)

    for method, count, batch, cached in CASES:
        if method == "vpt-deep" and wanted(method, prompts, count):
            fast = MODES if compiled else MODES[:2]
            options = {"num_tokens": count, "num_classes": 100}
            yield Job(f"vpt-deep {count}", IMAGE, "vpt-deep", options, 100, batch, cached, fast)
        elif method != "vpt-deep" and wanted(method, classes, count):
            options = {"num_tokens": 16} if method == "coop" else {}
            # Texts alone, of which the kernels are small: those of images are compiled above.
            fast = MODES if compiled and cached and count == 100 else MODES[:2]
            yield Job(f"{method}, {count} classes", PAIR, method, options, count, batch, cached, fast)


def main(
    out: Path, *, methods: Sequence[str], prompts: Sequence[int], classes: Sequence[int], compiled: bool, seconds: float
) -> int:
    """Measure, print and write; no case is begun after `seconds`."""
    started, rows = time.perf_counter(), []
    out.mkdir(parents=True, exist_ok=True)
    bare, watched = gpu_clock.measured()
    clocks = gpu_clock.told(bare, watched)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bf16. {clocks}", file=sys.stderr)
    limits: dict[str, float] = {}
    for job in jobs(methods, prompts, classes, compiled=compiled):
        if time.perf_counter() - started > seconds:
            print(f"{job.what} and what follows was left out: {seconds:.0f} seconds are over.", file=sys.stderr)
            break
        for found in measured(job, limits):
            row = replace(found, added=watched.between - bare.between)
            rows.append(row)
            print(told(row), file=sys.stderr, flush=True)
            about = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}
            (out / "gpu.json").write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1))
    document = "\n".join([*table(rows), "", *judged(rows), "", clocks])
    (out / "gpu.md").write_text(document + "\n")
    print(document)
    return 0


def measured(job: Job, limits: dict[str, float]) -> Iterator[Row]:
    """The rows of a job; `limits` holds the milliseconds of frozen forward passes by mode."""
    torch.manual_seed(0)
    names: dict[str, Any] = {} if "num_classes" in job.options else {"classes": class_names(job.classes)}
    model = vpt.create(job.backbone, job.method, pretrained=False, dtype="bf16", **names, **job.options)
    model = model.to("cuda").train()
    shape = (model.tower.num_features,) if job.cached else (3, *model.preprocessing.size)
    images = torch.randn(job.batch, *shape, device="cuda", dtype=torch.bfloat16)
    batch = (images, torch.arange(job.batch, device="cuda") % job.classes)
    if job.backbone == IMAGE and not limits:
        for mode in MODES if "compiled, captured" in job.fast else MODES[:2]:
            row = run(f"{IMAGE}, forward", "library", mode, frozen(model), batch, job.batch)
            limits[mode] = row.milliseconds
            yield row
    for form, modes in (("plain", job.plain), ("fast", job.fast)):
        for mode in modes:
            twice = 2 * limits[mode] if job.backbone == IMAGE and mode in limits else None
            yield run(job.what, form, mode, step(model, plain=form == "plain"), batch, job.batch, model, twice)
    if job.cached:
        yield from (fitted(job, model, steps) for steps in gpu_fit.STEPS)


def fitted(job: Job, model: vpt.Prompted, steps: int) -> Row:
    """A step of `vpt.fit`, which captures by itself, in epochs of so many."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    found = gpu_fit.milliseconds(model, job.batch, steps)
    memory = torch.cuda.max_memory_allocated() / 1e9
    return Row(job.what, "fast", f"{FIT}, {steps} steps an epoch", found, None, None, memory, job.batch / found * 1000)


def frozen(model: vpt.Prompted) -> Callable[[Any], Tensor]:
    """The library's own forward pass."""
    inner: Any = model.tower.model

    def forward(batch: Any) -> Tensor:
        with torch.no_grad():
            found: Tensor = inner(batch[0])
            return found

    return forward


def step(model: vpt.Prompted, *, plain: bool) -> Callable[[Any], Any]:
    """Forward and backward pass: the loss and the gradients."""
    tuned = [p for p in model.parameters() if p.requires_grad]

    def forward_and_backward(batch: Any) -> tuple[Tensor, list[Tensor | None]]:
        images, labels = batch
        if model.head is not None:
            features = model.features(images, plain=plain)
            loss = F.cross_entropy(model(features), labels)
        else:
            loss = model.method.loss(model.outputs(images, plain=plain), labels, 0.0)
        loss.backward()
        return loss.detach(), [parameter.grad for parameter in tuned]

    return forward_and_backward


def run(
    what: str,
    form: str,
    mode: str,
    function: Callable[[Any], Any],
    batch: Any,
    count: int,
    model: vpt.Prompted | None = None,
    twice: float | None = None,
) -> Row:
    """A row: warm-up, times, and a profile of some steps."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    tuned = [p for p in model.parameters() if p.requires_grad] if model else []
    updates = torch.optim.SGD(tuned, lr=1e-4, momentum=0.9, fused=True) if tuned else None
    compiling = None
    if mode.startswith("compiled"):
        function, compiling = compiled(function, batch, model)
    called: Callable[[Any], Any] = function
    if mode != "eager":
        called = Graphs(function, CudaRecorder(torch.device("cuda")), failed=refuse, warm=2)

    def once() -> None:
        found = called(batch)
        if updates:
            for parameter, gradient in zip(tuned, found[1], strict=True):
                parameter.grad = gradient
            updates.step()
            updates.zero_grad()

    for _ in range(4):
        once()
    times = [timed(once) for _ in range(REPEATS)]
    share, kernels, at_work = profiled(once)
    milliseconds = median(times)
    row = Row(
        what=what,
        form=form,
        mode=mode,
        milliseconds=milliseconds,
        profiled=share,
        kernels=kernels,
        gigabytes=torch.cuda.max_memory_allocated() / 1e9,
        images=count / milliseconds * 1000,
        limit=milliseconds / twice if twice else None,
        seconds=compiling,
        at_work=at_work,
    )
    if model is not None:
        restore(model)
    return row


def compiled(
    function: Callable[[Any], Any], batch: Any, model: vpt.Prompted | None
) -> tuple[Callable[[Any], Any], float]:
    """The function with its block loops compiled, and how long that took."""
    torch.compiler.reset()
    started = time.perf_counter()
    if model is None:
        function = torch.compile(function, fullgraph=True, dynamic=False)
    else:
        model.loop = torch.compile(model.loop, fullgraph=True, dynamic=False)
        if model.text is not None:
            model.text.loop = torch.compile(model.text.loop, fullgraph=True, dynamic=False)
    function(batch)
    torch.cuda.synchronize()
    return function, time.perf_counter() - started


def restore(model: vpt.Prompted) -> None:
    """The loops as they were."""
    from vpt.loops import encode_images, encode_texts

    model.loop = encode_images
    if model.text is not None:
        model.text.loop = encode_texts


def refuse(reason: str) -> None:
    """What cannot be captured has no place in this table."""
    raise RuntimeError(f"it was not captured: {reason}")


def timed(call: Callable[[], None]) -> float:
    """Milliseconds of a step among `STEPS`."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(STEPS):
        call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / STEPS


def profiled(call: Callable[[], None], steps: int = STEPS) -> tuple[float, int, float]:
    """Share of the time in which the GPU is busy, kernels of a step, and milliseconds of it in which the GPU is."""
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(BEFORE + steps):
            call()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in trace.events()
        if event.device_type == DeviceType.CUDA
    )
    later = spans[len(spans) * BEFORE // (BEFORE + steps) :]
    return busy_share(later), round(len(spans) / (BEFORE + steps)), busy_time(later) / steps / 1000


def busy_time(spans: Sequence[tuple[float, float]]) -> float:
    """How much time lies in any of `spans`, beginnings and ends in order of the beginnings."""
    busy, end = 0.0, -math.inf
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy


def busy_share(spans: Sequence[tuple[float, float]]) -> float:
    """How much of the time from the first to the last of `spans` lies in any of them."""
    if not spans:
        return 0.0
    return busy_time(spans) / max(max(stop for _, stop in spans) - spans[0][0], 1e-9)
