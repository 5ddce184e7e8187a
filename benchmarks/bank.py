"""Many tasks over one backbone: a batch that mixes them, against a model a task and against PEFT's mixed adapters."""

from __future__ import annotations

import gc
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from torch import Tensor, nn

import vpt
from benchmarks.measure import Case, Ratio, Run, Setting
from vpt import saving

BACKBONE = "vit_small_patch16_224"
METHODS: dict[str, dict[str, Any]] = {
    "vpt-deep": {"num_tokens": 10},
    "clip-lora": {"rank": 2, "head": "linear", "encoder": "image"},
}
TASKS = (1, 100, 1000)
CLASSES = 10
# PEFT takes minutes to be given more, and a pass of it takes as long: it runs the adapters that the batch names.
MOST_ADAPTERS = 100
REPLACED = 50
MEGA = 1e6


def cases(setting: Setting) -> Iterator[Case]:
    """Deep prompts and low-rank changes, of 1, 100 and 1,000 tasks."""
    counts = setting.tasks or ((1, 3) if setting.quick else TASKS)
    name = "vit_tiny_patch16_224" if setting.quick else BACKBONE
    batch = setting.batch or (4 if setting.quick else 32)
    for method in filter(setting.wants, METHODS):
        for count in counts:
            yield case(name, method, count, batch, setting)


def case(name: str, method: str, count: int, batch: int, setting: Setting) -> Case:
    """One method and number of tasks, each image of the batch of a task of its own, as far as there are as many."""
    backbone = _backbone(name, setting)
    started, before = time.perf_counter(), _memory()
    bank = vpt.PromptBank(backbone)
    with TemporaryDirectory() as folder:
        for index, place in enumerate(_saved(Path(folder), name, method, count, setting)):
            if index == 1:
                # The first pays for the fingerprint of the backbone.
                started = time.perf_counter()
            bank.add(str(index), place)
        adding = (time.perf_counter() - started) / max(1, count - 1)
        grown = _memory() - before
        before = _memory()
        for _ in range(REPLACED):
            bank.replace("0", Path(folder) / "0")
        leaked = _memory() - before
    size = backbone.patch_embed.img_size
    images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(setting.device)
    chosen = [bank.tasks[str(task)] for task in _spread(count, batch)]

    def mixed() -> list[Tensor]:
        return bank.logits_of(list(images), chosen)

    @torch.no_grad()
    def frozen() -> Tensor:
        return bank.image_features(images)

    @torch.no_grad()
    def each() -> list[Tensor]:
        groups = {task: [row for row, one in enumerate(chosen) if one is task] for task in dict.fromkeys(chosen)}
        return [task.model(images[rows]) for task, rows in groups.items()]

    runs = {"frozen": Run(frozen), "bank": Run(mixed), "model a task": Run(each)}
    adapters = 0
    ratios = [Ratio("bank / frozen", "bank", "frozen"), Ratio("model a task / bank", "model a task", "bank")]
    if method == "clip-lora":
        adapters = min(count, MOST_ADAPTERS)
        adapted = _peft(_backbone(name, setting), adapters)
        names = [f"task{task}" for task in _spread(adapters, batch)]

        @torch.no_grad()
        def mixed_adapters() -> Tensor:
            return adapted(images, adapter_names=names)

        runs["PEFT, mixed"] = Run(mixed_adapters)
        ratios.append(Ratio("PEFT, mixed / bank", "PEFT, mixed", "bank"))
    own = sum(task.num_bytes() for task in bank.tasks.values()) / count
    weights = sum(p.numel() * p.element_size() for p in backbone.parameters())
    return Case(
        facts={
            "model": name,
            "method": method,
            "tasks": count,
            "batch": batch,
            "a task's own KB": round(own / 1e3, 1),
            "bank MB": round((weights + count * own) / MEGA, 1),
            "process grew by MB": round(grown / MEGA, 1),
            "models MB": round(count * weights / MEGA, 1),
            "ms to add one": round(1000 * adding, 1),
            f"grew by MB in {REPLACED} replacements": round(leaked / MEGA, 1),
            "adapters of PEFT": adapters,
        },
        runs=runs,
        ratios=ratios,
        items=batch,
        constants=list(backbone.parameters()),
        budget=45.0,
        note="random weights; features and heads, without decoding images"
        + f"; PEFT holds {adapters} adapters of {count}" * (0 < adapters < count),
    )


def _spread(count: int, batch: int) -> list[int]:
    """The task of each image: each of its own as far as there are as many, and otherwise drawn."""
    if count >= batch:
        return [index * (count // batch) for index in range(batch)]
    return torch.randint(count, (batch,), generator=torch.Generator().manual_seed(0)).tolist()


def _backbone(name: str, setting: Setting) -> Any:
    import timm

    torch.manual_seed(0)
    size = {"img_size": 32} if setting.quick else {}
    return timm.create_model(name, **size, num_classes=0).eval().to(setting.device)


def _saved(folder: Path, name: str, method: str, count: int, setting: Setting) -> Iterator[Path]:
    """Models as if they were trained, saved one after another."""
    model = vpt.attach(_backbone(name, setting), method, num_classes=CLASSES, **METHODS[method])
    facts = {**model.facts(), "metrics": {}}
    # Plain values, as they are written.
    facts = json.loads(json.dumps(facts))
    for index in range(count):
        torch.manual_seed(index)
        tensors = {key: torch.randn_like(tensor, device="cpu") * 0.05 for key, tensor in model.tuned_state().items()}
        place = folder / str(index)
        saving.write(place, tensors, facts, "", overwrite=False)
        yield place


def _peft(backbone: nn.Module, count: int) -> Any:
    """PEFT's adapters of the same rank on the same projections, in one model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=2, target_modules=["qkv"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(backbone, config, adapter_name="task0")
        for index in range(1, count):
            model.add_adapter(f"task{index}", config)
    return model.eval()


def _memory() -> int:
    gc.collect()
    found: int = psutil.Process().memory_info().rss
    return found
