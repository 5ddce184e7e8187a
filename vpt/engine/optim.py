"""Optimizer and schedule of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info
from timm.scheduler import CosineLRScheduler
from torch import nn

from vpt.errors import VptError

BASE_BATCH = 256
DEFAULT_BASE_LR = 1.0
DEFAULT_LR = 1e-3
COOP_FIRST = 1e-5
# Slips of the hand lie above; the largest rate of a paper is 50.
LARGEST_LR = 100_000
FUSED = ("sgd", "adam", "adamw")
# A CPU has fused kernels too, which would save nothing on some thousand numbers, and round otherwise.
FUSED_ON = ("cuda", "mps", "xpu")

ScheduleKind = Literal["cosine", "annealing", "coop", "vpt"]


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
        if value is not None and value > LARGEST_LR:
            raise VptError(f"{name}={value} is no learning rate: give less than {LARGEST_LR:,}.")
    return rate * scale, (rate if head_lr is None else head_lr) * scale


def make_optimizer(
    groups: Mapping[str, Sequence[nn.Parameter]],
    *,
    name: str,
    lr: float,
    head_lr: float,
    momentum: float,
    weight_decay: float,
    eps: float | None = None,
    spared: Collection[nn.Parameter] = (),
    scaled: bool = False,
) -> torch.optim.Optimizer:
    """timm's optimizer `name` over what is trained; weight decay is for every parameter but those that are `spared`.

    "sgd" is SGD with momentum and without Nesterov's correction, which timm calls "momentum". On a GPU the
    optimizers that have a fused kernel use it, unless the loss is `scaled`, as in fp16: fused SGD whose first step is
    left out, since a gradient is not finite, goes on from momentum that was never set. `eps` is what Adam and its like
    add to the root of the second moment. Its groups are those given, and behind them one of what each has spared.

    Raises:
        VptError: timm has no such optimizer, it has no eps, or it needs another machine or package.
    """
    rates = {"head": head_lr}
    apart = {id(parameter) for parameter in spared}
    settings: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) not in apart], "lr": rates.get(group, lr)}
        for group, parameters in groups.items()
    ]
    for group, parameters in groups.items():
        found = [p for p in parameters if id(p) in apart]
        if found:
            settings.append({"params": found, "lr": rates.get(group, lr), "weight_decay": 0.0})
    check_optimizer(name, eps)
    further = {} if eps is None else {"eps": eps}
    devices = {parameter.device.type for group in groups.values() for parameter in group}
    fused = name in FUSED and devices <= set(FUSED_ON) and not scaled
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            settings,
            _timms(name),
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            **further,
            **({"fused": True} if fused else {}),
        )
    except (AssertionError, ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise VptError(f"the optimizer {name!r} cannot be had here ({error}): say sgd or adamw.") from error
    return optimizer


def check_optimizer(name: str, eps: float | None) -> None:
    """Nothing, if timm has this optimizer, and it takes the options that are given.

    Raises:
        VptError: it has not, or it does not.
    """
    info = _info(name)
    # timm drops it silently.
    if eps is not None and not info.has_eps:
        raise VptError(f"train.eps={eps} is no option of the optimizer {name!r}: leave it out.")


def takes_momentum(name: str) -> bool:
    """Whether momentum is an option of this optimizer; those of two moments have betas in its place."""
    info = _info(name)
    return bool(info.has_momentum and not info.has_betas)


def _info(name: str) -> Any:
    try:
        return get_optimizer_info(_timms(name))
    except ValueError as error:
        raise VptError(
            f"timm has no optimizer {name!r}: say sgd or adamw, or see timm.optim.list_optimizers()."
        ) from error


def _timms(name: str) -> str:
    """Its name in timm, whose "sgd" has Nesterov's correction."""
    return "momentum" if name == "sgd" else name


class Schedule(Protocol):
    """What sets the learning rates before each optimizer step."""

    def step_update(self, num_updates: int) -> None:
        """Before step k = 0, 1, …, with k + 1."""


class Rule:
    """Rates that a function gives for time 0, 1, … and a group's own rate; so many steps are one unit of time."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: Callable[[int, float], float], *, every: int) -> None:
        self.optimizer = optimizer
        self.rate = rate
        self.every = every
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step_update(self, num_updates: int) -> None:
        """Set the rates of the time that step `num_updates` - 1 belongs to."""
        time = (num_updates - 1) // self.every
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = self.rate(time, rate)


class Windows:
    """A schedule of their own for the steps of each group, from a first one to an end; elsewhere their rate is 0.

    Args:
        optimizer: whose groups they are.
        windows: first step and end of each.
        min_lr: where the cosine ends.
        warmup: share of a group's steps that warm-up takes; None for "annealing".
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        windows: Sequence[tuple[int, int]],
        *,
        min_lr: float,
        warmup: float | None,
    ) -> None:
        self.optimizer, self.windows, self.min_lr, self.warmup = optimizer, windows, min_lr, warmup
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step_update(self, num_updates: int) -> None:
        """Set the rates of step `num_updates` - 1."""
        for group, rate, (first, end) in zip(self.optimizer.param_groups, self.rates, self.windows, strict=True):
            step, steps = num_updates - 1 - first, end - first
            group["lr"] = self._rate(rate, step, steps) if 0 <= step < steps else 0.0

    def _rate(self, rate: float, step: int, steps: int) -> float:
        if self.warmup is None:
            done = step / steps
        else:
            of_warmup = round(self.warmup * steps)
            if step + 1 < of_warmup:
                return rate * (step + 1) / of_warmup
            done = (step + 1 - of_warmup) / (steps + 1 - of_warmup)
        return self.min_lr + (rate - self.min_lr) * (1 + math.cos(math.pi * done)) / 2


def make_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    warmup_steps: int,
    min_lr: float,
    kind: ScheduleKind = "cosine",
    steps_per_epoch: int = 1,
    windows: Sequence[tuple[int, int]] | None = None,
) -> Schedule:
    """The learning rates of n = `steps` steps k = 0, 1, …, which `step_update(k + 1)` sets, or of E epochs of s steps.

    "cosine": linear warm-up, then half a cosine. With w warm-up steps, the rate of step k is lr · (k + 1) / w while
    k + 1 < w, and afterwards min_lr + (lr - min_lr) / 2 · (1 + cos(π (k + 1 - w) / (n + 1 - w))): no step has a rate
    of 0.

    "annealing": min_lr + (lr - min_lr) / 2 · (1 + cos(π k / n)), torch's `CosineAnnealingLR` stepped at each step, as
    in the code of Tip-Adapter-F and CLIP-LoRA.

    "coop": 1e-5 in epoch 0, lr / 2 · (1 + cos(π (e - 1) / E)) in epoch e (Zhou et al., IJCV 2022, whose cosine is
    stepped once an epoch and one epoch late, so that it never comes to 0).

    "vpt": lr · e / W in epoch e of the first W = w / s, and afterwards lr / 2 · (1 + cos(π (e - W) / (E - W))), so that
    epoch 0 trains nothing (the code of Jia et al., ECCV 2022).

    With `windows`, first step and end for each group of the optimizer, "cosine" and "annealing" are those of its own
    steps, before and after which a group's rate is 0.

    Raises:
        VptError: windows with another schedule.
    """
    if windows is not None:
        if kind not in ("cosine", "annealing"):
            raise VptError(f"train.schedule={kind}: what is trained in stages takes cosine or annealing, one for each.")
        warmup = None if kind == "annealing" else warmup_steps / steps
        return Windows(optimizer, windows, min_lr=min_lr, warmup=warmup)
    epochs, warmup_epochs = math.ceil(steps / steps_per_epoch), warmup_steps / steps_per_epoch

    def half_cosine(done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2

    def coop(epoch: int, rate: float) -> float:
        return rate * half_cosine((epoch - 1) / epochs) if epoch else COOP_FIRST

    def vpt(epoch: int, rate: float) -> float:
        if epoch < warmup_epochs:
            return rate * epoch / warmup_epochs
        return rate * half_cosine((epoch - warmup_epochs) / max(1, epochs - warmup_epochs))

    if kind == "coop":
        return Rule(optimizer, coop, every=steps_per_epoch)
    if kind == "vpt":
        return Rule(optimizer, vpt, every=steps_per_epoch)
    if kind == "annealing":
        return Rule(optimizer, lambda k, rate: min_lr + (rate - min_lr) * half_cosine(k / steps), every=1)
    return CosineLRScheduler(
        optimizer,
        t_initial=steps + 1 - warmup_steps,
        lr_min=min_lr,
        warmup_t=warmup_steps,
        warmup_prefix=True,
        t_in_epochs=False,
    )
