"""What `fit` was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from vpt.capture import GraphChoice
from vpt.engine.arguments import (
    check_counts,
    check_not_negative,
    check_schedule,
    check_shares,
    check_sizes,
    check_warmup,
)
from vpt.engine.optim import LARGEST_LR, ScheduleKind, check_optimizer, learning_rates
from vpt.errors import VptError
from vpt.options import schema_of, validated
from vpt.preprocessing import ImageTransform

# On which no number depends.
NEUTRAL = ("workers", "compile", "recompute", "graph")


@dataclass(frozen=True)
class Settings:
    """The options of `fit`, which tells their meaning, checked as far as they can be by themselves.

    Raises:
        VptError: one that will not do.
    """

    epochs: int
    steps: int | None
    batch_size: int
    drop_last: bool
    optimizer: str
    lr: float | None
    base_lr: float | None
    head_lr: float | None
    momentum: float
    weight_decay: float
    no_decay: Literal["biases"] | None
    eps: float | None
    warmup_epochs: float | None
    min_lr: float
    schedule: ScheduleKind
    label_smoothing: float
    augment: str | ImageTransform
    precision: str
    compile: bool
    recompute: str
    graph: GraphChoice
    accumulate: int
    clip_norm: float | None
    ema: float | None
    eval_every: int
    patience: int | None
    keep: Literal["best", "last"] | None
    views: int | None
    workers: int
    seed: int

    def __post_init__(self) -> None:
        self._check_ranges()
        # Of its own accord a dataclass takes anything.
        validated(SCHEMA, vars(self), "")
        # A base rate is scaled by the batch, which is not known yet.
        rates = {"lr": self.lr, "base_lr": self.base_lr, "head_lr": self.head_lr}
        rate, _ = learning_rates(**rates, batch=LARGEST_LR, optimizer=self.optimizer)
        if self.min_lr > rate:
            raise VptError(f"min_lr={self.min_lr} is above the learning rate, which ends there: give less.")
        check_optimizer(self.optimizer, self.eps)
        check_schedule(self.schedule, warmup_epochs=self.warmup_epochs, min_lr=self.min_lr)
        if self.steps is None:
            check_warmup(self.warmup_epochs, self.epochs)

    def _check_ranges(self) -> None:
        counts = ("epochs", "steps", "batch_size", "accumulate", "eval_every", "patience")
        check_counts(**{name: getattr(self, name) for name in counts})
        measures = ("weight_decay", "eps", "min_lr", "clip_norm", "workers", "views")
        check_not_negative(**{name: getattr(self, name) for name in measures})
        check_sizes(clip_norm=self.clip_norm, workers=self.workers, seed=self.seed)
        check_shares(label_smoothing=self.label_smoothing, ema=self.ema, momentum=self.momentum)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Settings:
        """Those among the arguments of `fit`."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    def recorded(self) -> dict[str, Any]:
        """Those that the numbers of a run depend on, as plain values; a transform by its type alone."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NEUTRAL}
        return values | {"augment": self.augment if isinstance(self.augment, str) else type(self.augment).__name__}


SCHEMA = schema_of({name: (hint, ...) for name, hint in get_type_hints(Settings).items()})
