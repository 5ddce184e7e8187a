"""Optimizer and schedule of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from vpt.errors import VptError

BASE_BATCH = 256
DEFAULT_BASE_LR = 1.0
DEFAULT_LR = 1e-3
FUSED = ("sgd", "adam", "adamw")


def learning_rates(
    *, lr: float | None, base_lr: float | None, head_lr: float | None, batch: int, optimizer: str
) -> tuple[float, float]:
    """The learning rates of prompts (or backbone) and of the head.

    Args:
        lr: as it is used; or
        base_lr: for a batch of 256, scaled to `batch` (Jia et al., ECCV 2022, appendix A); with neither SGD
            gets a base of 1 and other optimizers 0.001.
        head_lr: the head's, in the unit of the one that is given; the same by default.
        batch: images in one optimizer step, of all processes together.
        optimizer: its name.
    """
    if lr is not None and base_lr is not None:
        raise VptError("give lr or base_lr, not both: base_lr is the rate for a batch of 256 images.")
    if lr is None and base_lr is None:
        lr, base_lr = (None, DEFAULT_BASE_LR) if optimizer == "sgd" else (DEFAULT_LR, None)
    rate, scale = (lr, 1.0) if lr is not None else (base_lr, batch / BASE_BATCH)
    assert rate is not None
    for name, value in (("lr", rate), ("head_lr", head_lr)):
        if value is not None and value < 0:
            raise VptError(f"{name}={value} is below 0: give a positive learning rate.")
    return rate * scale, (rate if head_lr is None else head_lr) * scale


def make_optimizer(
    groups: Mapping[str, Sequence[nn.Parameter]],
    *,
    name: str,
    lr: float,
    head_lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """timm's optimizer `name` over what is trained; weight decay is for every parameter, as in VPT's code.

    "sgd" is SGD with momentum and without Nesterov's correction, which timm calls "momentum". On a GPU the
    optimizers that have a fused kernel use it.
    """
    rates = {"head": head_lr}
    settings = [{"params": list(parameters), "lr": rates.get(group, lr)} for group, parameters in groups.items()]
    fused = name in FUSED and all(parameter.is_cuda for group in groups.values() for parameter in group)
    try:
        return create_optimizer_v2(
            settings,
            "momentum" if name == "sgd" else name,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            **({"fused": True} if fused else {}),
        )
    except (ValueError, AssertionError) as error:
        raise VptError(
            f"timm has no optimizer {name!r}: say sgd or adamw, or see timm.optim.list_optimizers()."
        ) from error


class Schedule(Protocol):
    """What sets the learning rates before each optimizer step."""

    def step_update(self, num_updates: int) -> None:
        """Before step k = 0, 1, …, with k + 1."""


class CoOpSchedule:
    """Of CoOp and what follows it: epoch 0 at 1e-5, epoch e at lr / 2 · (1 + cos(π (e - 1) / epochs)).

    Zhou et al., IJCV 2022; the cosine is stepped once an epoch and one epoch late, so it never comes to 0.
    """

    FIRST = 1e-5

    def __init__(self, optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> None:
        self.optimizer = optimizer
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step_update(self, num_updates: int) -> None:
        """Set the rates of the epoch that step `num_updates` - 1 belongs to."""
        epoch = (num_updates - 1) // self.steps_per_epoch
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            cosine = (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2
            group["lr"] = rate * cosine if epoch else self.FIRST


def make_schedule(
    optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int, min_lr: float
) -> CosineLRScheduler:
    """Linear warm-up, then half a cosine, set before optimizer step k = 0, 1, … by `step_update(k + 1)`.

    With w warm-up steps of n, the rate of step k is lr · (k + 1) / w while k + 1 < w, and afterwards
    min_lr + (lr − min_lr) / 2 · (1 + cos(π (k + 1 − w) / (n + 1 − w))): no step has a rate of 0.
    """
    return CosineLRScheduler(
        optimizer,
        t_initial=steps + 1 - warmup_steps,
        lr_min=min_lr,
        warmup_t=warmup_steps,
        warmup_prefix=True,
        t_in_epochs=False,
    )
