"""Visual prompts: a training step and an evaluation, against the frozen model and against the plain form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vpt
from benchmarks.measure import Case, Ratio, Run, Setting
from vpt.towers.base import ImageTower

AXIS = "prompts"
LINES = ("step / limit", "plain step / limit")

BACKBONES = ("timm/vit_small_patch16_224", "timm/vit_base_patch16_224")
METHODS = ("vpt-shallow", "vpt-deep")
PROMPTS = (1, 10, 50, 100, 200)
CLASSES = 100

# With this many deep prompts, the step over its limit: at most.
STEP_TARGETS = {
    "timm/vit_small_patch16_224": {50: 1.30, 200: 1.40},
    "timm/vit_base_patch16_224": {50: 1.10, 200: 1.15},
}


def cases(setting: Setting) -> Iterator[Case]:
    """Each backbone with shallow and deep prompts, few to many; random weights, which cost what others do."""
    backbones = setting.backbones or (("timm/vit_tiny_patch16_224",) if setting.quick else BACKBONES)
    batch = setting.batch or (2 if setting.quick else 8 if setting.device == "cpu" else 64)
    size: dict[str, Any] = {"image_size": 32} if setting.quick and not setting.backbones else {}
    for backbone in backbones:
        for method in filter(setting.wants, METHODS):
            for prompts in setting.prompts or ((1, 10) if setting.quick else PROMPTS):
                torch.manual_seed(0)
                model = vpt.create(
                    backbone, method, num_tokens=prompts, num_classes=CLASSES, pretrained=False, **size
                ).to(setting.device)
                yield case(model, batch, setting, {"model": backbone, "method": method, "prompts": prompts})


def case(model: vpt.Prompted, batch: int, setting: Setting, facts: dict[str, Any]) -> Case:
    """A model's step and evaluation in both forms, and its frozen tower alone."""
    images = torch.randn(batch, 3, *model.preprocessing.size, device=setting.device)
    labels = torch.arange(batch, device=setting.device) % CLASSES
    # Without gradients, since torch's counter of operations fails on a parameter in inference mode.
    evaluated = copy.deepcopy(model).requires_grad_(False).compile_prompts()
    model.train()

    return Case(
        facts=facts | {"batch": batch},
        runs={
            "frozen forward": forward_run(frozen(evaluated.tower), images, setting),
            "step": step_run(model, model, images, labels, setting),
            "plain step": step_run(model, plain(model), images, labels, setting),
            "evaluation": forward_run(evaluated, images, setting),
            "plain evaluation": forward_run(plain(evaluated), images, setting),
        },
        ratios=ratios(facts, setting),
        items=batch,
        constants=[*model.parameters(), *model.buffers()],
    )


def ratios(facts: dict[str, Any], setting: Setting) -> list[Ratio]:
    """What is read from the runs; the limit is one forward and one backward pass of the frozen tower."""
    deep = facts["method"] == "vpt-deep" and "model" in facts and setting.has_targets
    prompts = facts.get("prompts", 0)
    step = STEP_TARGETS.get(facts.get("model", ""), {}).get(prompts) if deep else None
    many = deep and prompts == 200
    return [
        Ratio("step / limit", "step", "frozen forward", times=2, at_most=step),
        Ratio("plain step / limit", "plain step", "frozen forward", times=2),
        Ratio("plain step / step", "plain step", "step", at_least=2.0 if many else None),
        Ratio("evaluation / frozen", "evaluation", "frozen forward", at_most=1.05 if deep and prompts <= 50 else None),
        Ratio("plain evaluation / evaluation", "plain evaluation", "evaluation"),
        Ratio("FLOPs: step / limit", "step", "frozen forward", times=2, of="flops"),
        Ratio("FLOPs: plain step / step", "plain step", "step", of="flops"),
        Ratio("saved bytes: step / plain step", "step", "plain step", of="saved", at_most=0.6 if many else None),
    ]


def plain(model: vpt.Prompted) -> Callable[[Tensor], Tensor]:
    """The model's definition, which advances every token, as the paper's code does."""
    head = model.head
    assert head is not None
    return lambda images: head(model.features(images, plain=True))


def frozen(tower: ImageTower) -> Callable[[Tensor], Tensor]:
    """The frozen model's own forward pass, block by block as its library has it."""
    return tower.features


def forward_run(forward: Callable[[Tensor], Tensor], images: Tensor, setting: Setting) -> Run:
    """A pass without gradients."""

    def passing(forward: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        @torch.inference_mode()
        def call() -> Tensor:
            with setting.autocast():
                return forward(images)

        return call

    return Run(call=passing(setting.compile(forward)), eager=passing(forward))


def step_run(
    model: vpt.Prompted, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, setting: Setting
) -> Run:
    """A training step: forward and backward pass, and the optimizer's."""
    tuned = [parameter for group in model.parameter_groups().values() for parameter in group]
    optimizer = torch.optim.SGD(tuned, lr=1e-3, momentum=0.9)

    def losing(forward: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            with setting.autocast():
                logits = forward(images)
            return F.cross_entropy(logits.float(), labels)

        return loss

    def stepping(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    timed, eager = losing(setting.compile(forward)), losing(forward)
    return Run(call=stepping(timed), eager=stepping(eager), forward=timed)
