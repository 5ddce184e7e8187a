"""What is around the model: reading images against training on them, an epoch against its steps, start-up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import vpt
from benchmarks.measure import Case, Ratio, Run, Setting
from vpt.data.base import Files
from vpt.data.cache import Cached
from vpt.data.loading import loader
from vpt.preprocessing import ImageTransform

BACKBONES = ("vpt/vit-nano", "timm/vit_small_patch16_224")
CLASSES = 10


def cases(setting: Setting) -> Iterator[Case]:
    """Images as files, out of both caches and as tensors, for a small and a larger backbone; then start-up."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, {"VPT_CACHE": folder}):
        for backbone in setting.backbones or (BACKBONES[:1] if setting.quick else BACKBONES):
            batch = setting.batch or (4 if setting.quick else 16 if setting.device == "cpu" else 64)
            # The small backbone's steps are short: more of them make up an epoch.
            count = batch * (2 if setting.quick else 32 if backbone == BACKBONES[0] else 4)
            options: dict[str, Any] = {"num_classes": CLASSES, "pretrained": backbone.startswith("vpt/")}
            model, linear = (vpt.create(backbone, method, **options) for method in ("vpt-deep", "linear"))
            for kind, source in sources(count, model.preprocessing.size, Path(folder)).items():
                facts = {"model": backbone, "images": kind, "batch": batch, "count": count}
                yield epoch_case(model.to(setting.device), source, batch, setting, facts)
                if kind == "cached in memory":
                    facts |= {"images": "features computed once", "method": "linear"}
                    yield features_case(linear.to(setting.device), source, batch, setting, facts)
    yield start_up_case(setting)


def sources(count: int, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """`count` images as JPEG files in `folder`, the same out of a cache, and noise of the model's `size`."""
    random = np.random.default_rng(0)
    labels = [i % CLASSES for i in range(count)]
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path in paths:
        if not path.exists():
            coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    files, tensors = Files(paths, labels), torch.randn(count, 3, *size)
    return {
        "JPEG files, 500 × 375": files,
        "cached on disk": Cached(files, "disk"),
        "cached in memory": Cached(files, "memory"),
        "tensors": [(tensors[i], labels[i]) for i in range(count)],
    }


def epoch_case(model: vpt.Prompted, source: Any, batch: int, setting: Setting, facts: dict[str, Any]) -> Case:
    """All images read, trained on by bare steps, and in an epoch of `vpt.fit`."""
    transform = model.preprocessing.transform()
    if isinstance(source, Cached):
        source, transform = source.prepared(transform)
    read = loader(source, transform, batch_size=batch, shuffle=True, seed=0)
    batches = [(images.to(setting.device), labels.to(setting.device)) for images, labels in read]
    target = 1.05 if setting.has_targets and not isinstance(source, Files) else None
    return Case(
        facts=facts,
        runs={
            "input": Run(lambda: sum(len(labels) for _, labels in read)),
            "steps": Run(bare_steps(model, batches, setting)),
            "epoch": Run(epoch(model, source, transform, batch, setting), own_clock=True),
        },
        ratios=[
            Ratio("input / steps", "input", "steps"),
            Ratio("epoch / steps", "epoch", "steps", at_most=target),
        ],
        items=len(source),
    )


def features_case(model: vpt.Prompted, source: Cached, batch: int, setting: Setting, facts: dict[str, Any]) -> Case:
    """An epoch of `vpt.fit` of a method that leaves image features as they are, of steps that are next to nothing."""
    read = loader(*source.prepared(model.preprocessing.transform()), batch_size=batch)
    with torch.no_grad():
        batches = [(model.kept(images.to(setting.device)), labels.to(setting.device)) for images, labels in read]
    return Case(
        facts=facts,
        runs={
            "steps": Run(bare_steps(model, batches, setting)),
            "epoch": Run(epoch(model, source, "none", batch, setting), own_clock=True),
        },
        ratios=[Ratio("epoch / steps", "epoch", "steps")],
        items=len(source),
    )


def bare_steps(model: vpt.Prompted, batches: list[tuple[Tensor, Tensor]], setting: Setting) -> Callable[[], None]:
    """A loop that anyone would write, over batches that are there already."""
    tuned = [parameter for group in model.parameter_groups().values() for parameter in group]
    optimizer = torch.optim.SGD(tuned, lr=1e-3, momentum=0.9)

    def steps() -> None:
        model.train()
        for images, labels in batches:
            with setting.autocast():
                logits = model(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


class Clock(vpt.Callback):
    """Knows when the first epoch of a run was over, what is kept of it included.

    Args:
        now: the time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.started = 0.0

    def on_epoch(self, training: vpt.Training) -> None:
        """Start, after the first."""
        if training.epoch == 1:
            self.started = self.now()


def epoch(
    model: vpt.Prompted, source: Any, transform: ImageTransform | str, batch: int, setting: Setting
) -> Callable[[], float]:
    """The second of two epochs, and what `fit` does after it."""
    precision: Literal["bf16", "fp32"] = "bf16" if setting.dtype == "bfloat16" else "fp32"
    options: dict[str, Any] = {"batch_size": batch, "augment": transform, "precision": precision, "progress": False}

    def call() -> float:
        clock = Clock(setting.now)
        vpt.fit(model, source, epochs=2, lr=1e-3, callbacks=[clock], **options)
        return setting.now() - clock.started

    return call


BARE = """
import timm, torch
model = timm.create_model("vit_small_patch16_224", num_classes=10)
model.requires_grad_(False).head.requires_grad_(True)
optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3, momentum=0.9)
torch.nn.functional.cross_entropy(model(torch.randn(1, 3, 224, 224)), torch.tensor([0])).backward()
optimizer.step()
"""

OURS = """
import torch, vpt
model = vpt.create("timm/vit_small_patch16_224", num_classes=10, pretrained=False)
vpt.fit(model, [(torch.randn(3, 224, 224), 0)], epochs=1, progress=False)
"""


def start_up_case(setting: Setting) -> Case:
    """From a new process to the end of the first step of one image, `vpt` against torch and timm by hand."""
    return Case(
        facts={"model": "timm/vit_small_patch16_224", "from a new process": "to the first step"},
        runs={
            "vpt": Run(lambda: child(OURS, setting), own_clock=True),
            "torch and timm": Run(lambda: child(BARE, setting), own_clock=True),
        },
        ratios=[Ratio("start-up: vpt / torch and timm", "vpt", "torch and timm")],
        items=1,
    )


def child(code: str, setting: Setting) -> float:
    """Seconds that a process takes to run `code`: its own CPU time on one thread, the wall clock otherwise."""

    def now() -> float:
        if setting.device == "cuda" or setting.threads > 1:
            return time.perf_counter()
        times = os.times()
        return times.children_user + times.children_system

    start = now()
    threads = {"OMP_NUM_THREADS": str(setting.threads)}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | threads)
    return now() - start
