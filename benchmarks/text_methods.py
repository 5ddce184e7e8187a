"""Every method for images and texts: what a training step costs, to be held against its accuracy.

The rows are those of configs/protocols/lit_few_shot.yaml, with its model's size, 100 classes and random weights, which
cost what others do. A row that leaves images as they are is given what is computed of them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

import vpt
from benchmarks import lit
from benchmarks.image import forward_run, frozen
from benchmarks.measure import Case, Ratio, Run, Setting
from benchmarks.text import class_names
from vpt.config import assign, parse, plain, read
from vpt.preprocessing import Preprocessing

CONFIG = read(Path(__file__).parents[1] / "configs/protocols/lit_few_shot.yaml")
METHODS = tuple(CONFIG.compare)
SIDE, SHOTS = 112, 16


def cases(setting: Setting) -> Iterator[Case]:
    """A training step of each row beside the frozen image encoder; of rows that take none there is no case."""
    batch = setting.batch or (2 if setting.quick else 32)
    for label in METHODS:
        if setting.wants(label):
            model = model_of(label, setting)
            if model.parameter_groups():
                yield case(label, model, batch, setting)


def model_of(label: str, setting: Setting) -> vpt.Prompted:
    """A row's model, which has seen all the features that it begins with."""
    values = {key: value for key, value in plain(CONFIG).items() if key not in ("compare", "shots", "seeds")}
    row = parse(assign(values, "method", CONFIG.compare[label]["method"]))
    torch.manual_seed(0)
    sizes: dict[str, Any] = lit.config(32 if setting.quick else SIDE)
    if setting.quick:
        sizes["vision_cfg"]["layers"] = 2
    options = {key: value for key, value in row.method.items() if key != "name"}
    names = class_names(5 if setting.quick else 100)
    seen = Preprocessing((sizes["vision_cfg"]["image_size"],) * 2)
    given: dict[str, Any] = {"classes": names, "templates": row.templates, "preprocessing": seen}
    model = vpt.attach(open_clip.model.CLIP(**sizes), row.method["name"], head="text", **given, **options)
    if model.method.classifier.needs_features:
        shots = SHOTS * len(names)
        model.prepare(torch.randn(shots, model.kept_size), torch.arange(shots) % len(names))
    return model.to(setting.device)


def case(label: str, model: vpt.Prompted, batch: int, setting: Setting) -> Case:
    """The step of a row: forward and backward pass of its loss, and the optimizer's."""
    full = int(CONFIG.compare[label].get("train.batch_size", 0)) > 0
    count = SHOTS * len(model.classes) if full else batch
    some = torch.randn(batch, 3, *model.preprocessing.size, device=setting.device)
    taken = inputs(model, some, count)
    labels = torch.arange(count, device=setting.device) % len(model.classes)
    model.train()
    return Case(
        facts={"method": label, "batch": count},
        runs={
            "frozen forward": replace(forward_run(frozen(model.tower), some, setting), items=batch),
            "step": step_run(model, taken, labels, setting),
        },
        ratios=[Ratio("step / limit", "step", "frozen forward", times=2)],
        items=count,
        constants=[*model.parameters(), *model.buffers()],
        budget=10.0,
    )


def inputs(model: vpt.Prompted, images: Tensor, count: int) -> Tensor:
    """Images, two views of them, or what is kept of `count` of them."""
    if model.keeps_images:
        return torch.randn(count, model.kept_size, device=images.device)
    return torch.stack([images, images], dim=1) if model.method.two_views else images


def step_run(model: vpt.Prompted, images: Tensor, labels: Tensor, setting: Setting) -> Run:
    """A training step as `vpt.fit` makes it, with what the loss asks of the frozen model."""
    tuned = [parameter for group in model.parameter_groups().values() for parameter in group]
    optimizer = torch.optim.AdamW(tuned, lr=1e-4)

    def loss() -> Tensor:
        with setting.autocast():
            return model.loss((images, labels))

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return Run(call=step, forward=loss)
