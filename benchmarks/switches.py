"""Switches of speed and memory: a training step with each of them, against the same step without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import vpt
from benchmarks.image import step_run
from benchmarks.measure import Case, Ratio, Run, Setting
from benchmarks.text import class_names, images
from vpt.engine.speed import switches

IMAGE_BACKBONES = ("timm/vit_small_patch16_224",)
TEXT_BACKBONES = ("open_clip/ViT-B-32",)
PROMPTS = 50
CLASSES = 1000
CHUNK = 100
BARE = "no switch"


def cases(setting: Setting) -> Iterator[Case]:
    """Deep visual prompts, then CoOp with many classes; random weights, which cost what others do."""
    setting = replace(setting, compiled=False, dtype="float32")
    batch = setting.batch or (2 if setting.quick else 8 if setting.device == "cpu" else 64)
    for backbone in setting.backbones or (("timm/vit_tiny_patch16_224",) if setting.quick else IMAGE_BACKBONES):
        for prompts in setting.prompts or ((2,) if setting.quick else (PROMPTS,)):
            size = {"image_size": 32} if setting.quick else {}
            options: dict[str, Any] = {"num_tokens": prompts, "num_classes": CLASSES, **size}
            yield from case_of_images(backbone, options, batch, setting)
    for backbone in ("vpt/clip-nano",) if setting.quick else TEXT_BACKBONES:
        yield from case_of_texts(backbone, 6 if setting.quick else CLASSES, setting)


def case_of_images(backbone: str, options: dict[str, Any], batch: int, setting: Setting) -> Iterator[Case]:
    """Compilation, what is computed again, and half precision."""
    half = replace(setting, dtype="bfloat16")
    with ExitStack() as held:

        def run(how: Setting = setting, dtype: Any = "fp32", **switched: Any) -> Run:
            torch.manual_seed(0)
            model = vpt.create(backbone, "vpt-deep", pretrained=False, dtype=dtype, **options).to(setting.device)
            held.enter_context(switches(model, **switched))
            noise = torch.randn(batch, 3, *model.preprocessing.size, device=setting.device)
            labels = torch.arange(batch, device=setting.device)
            constants.extend([*model.parameters(), *model.buffers()])
            return step_run(model, model.train(), noise, labels, how)

        constants: list[Tensor] = []
        runs = {
            BARE: run(),
            "recompute: mlp": run(recompute="mlp"),
            "recompute: block": run(recompute="block"),
            "precision: bf16": run(half),
            "dtype: bf16": run(dtype="bf16"),
            # Its compiler would reset the others' graphs when it ends.
            "compile": run(compile=True),
        }
        facts = {"model": backbone, "method": "vpt-deep", "prompts": options["num_tokens"], "batch": batch}
        yield case(facts, runs, batch, constants)


def case_of_texts(backbone: str, count: int, setting: Setting) -> Iterator[Case]:
    """Many classes at once and in chunks, which keep nothing for the backward pass."""
    torch.manual_seed(0)
    model = vpt.create(backbone, "coop", classes=class_names(count), pretrained=False).to(setting.device).train()
    features, labels = images(model, 32, count, setting)
    side = model.text
    assert side is not None

    def chunked(chunk: int | None) -> Run:
        bare = step_run(model, model, features, labels, setting)

        def within(call: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                side.chunk = chunk
                return call()

            return run

        assert bare.forward is not None
        return Run(call=within(bare.call), forward=within(bare.forward))

    facts = {"model": backbone, "method": "coop", "classes": count, "context": model.method.num_context}
    runs = {BARE: chunked(None), f"text_chunk: {CHUNK}": chunked(CHUNK)}
    yield case(facts, runs, 32, [*model.parameters(), *model.buffers()])


def case(facts: dict[str, Any], runs: dict[str, Run], items: int, constants: list[Tensor]) -> Case:
    """Time and saved bytes of each run over those without a switch."""
    switched = [name for name in runs if name != BARE]
    return Case(
        facts=facts,
        # Operations are those of the other parts.
        runs={name: replace(run, eager=None) for name, run in runs.items()},
        ratios=[
            *(Ratio(f"time: {name}", name, BARE) for name in switched),
            *(Ratio(f"saved bytes: {name}", name, BARE, of="saved") for name in switched),
        ],
        items=items,
        constants=constants,
        budget=60.0,
    )
