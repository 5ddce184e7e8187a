"""What `fit` was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from vpt.engine.arguments import check_counts, check_not_negative, check_schedule, check_shares, check_warmup
from vpt.engine.capture import GraphChoice
from vpt.engine.optim import ScheduleKind
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
        counts = ("epochs", "steps", "batch_size", "accumulate", "eval_every", "patience")
        check_counts(**{name: getattr(self, name) for name in counts})
        measures = ("momentum", "weight_decay", "eps", "min_lr", "clip_norm", "workers")
        check_not_negative(**{name: getattr(self, name) for name in measures})
        check_shares(label_smoothing=self.label_smoothing, ema=self.ema)
        check_schedule(self.schedule, warmup_epochs=self.warmup_epochs, min_lr=self.min_lr)
        if self.steps is None:
            check_warmup(self.warmup_epochs, self.epochs)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Settings:
        """Those among the arguments of `fit`."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    def recorded(self) -> dict[str, Any]:
        """Those that the numbers of a run depend on, as plain values; a transform by its type alone."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NEUTRAL}
        return values | {"augment": self.augment if isinstance(self.augment, str) else type(self.augment).__name__}
