"""Several runs of one text-prompt method that go through the text encoder together."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from vpt.data.base import Samples
from vpt.data.transforms import as_transform, is_still
from vpt.engine.evaluate import as_loader, make_accelerator, score
from vpt.engine.features import image_features
from vpt.engine.optim import Schedule, ScheduleKind, make_optimizer, make_schedule
from vpt.engine.record import FitResult, Record
from vpt.engine.tally import Tally
from vpt.errors import DivergedError, VptError
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification


def fit_many(
    models: Sequence[Prompted],
    train: Samples,
    val: Samples | None = None,
    *,
    lrs: Sequence[float],
    seeds: Sequence[int],
    epochs: int = 100,
    batch_size: int = 64,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    warmup_epochs: float | None = None,
    min_lr: float = 0.0,
    schedule: ScheduleKind = "cosine",
    label_smoothing: float = 0.0,
    augment: str | ImageTransform = "none",
    precision: Literal["fp32", "bf16"] = "fp32",
    keep: Literal["best", "last"] = "best",
    views: int = 1,
    progress: bool = True,
) -> list[FitResult | DivergedError]:
    """Train R models on one backbone as R calls of `fit` would, to rounding, in less time where classes are few.

    The texts of all runs are advanced in one pass: those of a run alone, some tens of tokens, leave a processor
    waiting for the weights of the encoder. Each run has its own order of images, learning rate and best epoch.

    Args:
        models: each with the same classes, and a method that learns text prompts before the first block, on images
            that stay as they are: CoOp. They share the text encoder's weights, as those that `vpt.attach` makes of
            one backbone do. Each is changed in place.
        train: labelled images.
        val: likewise, to choose the best epoch by.
        lrs: a learning rate for each model.
        seeds: of the order and augmentation of each run's images.
        epochs: passes over `train`; this and all that follows is as in `fit`, and the same for all runs.
        batch_size: images a step of each run.
        optimizer: "sgd", "adamw", or another name of timm's.
        momentum: of SGD.
        weight_decay: of every trained parameter.
        warmup_epochs: of linear warm-up by steps; a tenth of the epochs by default.
        min_lr: where the cosine ends.
        schedule: of the learning rates.
        label_smoothing: of the training loss.
        augment: a name as in `vpt.data.transforms.augmentation`, or a transform of any library.
        precision: "fp32", or autocast to "bf16".
        keep: leave each model at the epoch that was best on `val`, or at the last one.
        views: augmented views of each image whose features are computed, once; epochs take them in turn.
        progress: show it.

    Returns:
        A result for each model, or the error of a run whose loss was not finite; the others go on without it.

    Raises:
        VptError: models that cannot be trained together.
    """
    _check(models, lrs, seeds, epochs, batch_size, views)
    accelerator = make_accelerator(precision)
    shown = Progress(enabled=progress and accelerator.is_main_process, epochs=epochs)
    transform = as_transform(augment, models[0].preprocessing)
    for model in models:
        model.to(accelerator.device)

    def features(data: Samples, transform: ImageTransform, seed: int | None, views: int) -> Tensor:
        options: dict[str, Any] = {"batch_size": batch_size, "workers": 0, "seed": seed, "views": views}
        return image_features(models[0], data, transform, accelerator, shown, **options)

    drawn = {seed: features(train, transform, seed, views) for seed in set(seeds[:1] if is_still(transform) else seeds)}
    val_batches = None
    if val is not None:
        known = features(val, models[0].preprocessing.transform(), None, 1)
        val_batches = accelerator.prepare(as_loader(val, models[0], batch_size=batch_size, workers=0, features=known))
    runs = []
    for model, lr, seed in zip(models, lrs, seeds, strict=True):
        of_seed = drawn.get(seed, drawn[seeds[0]])
        loader = as_loader(train, model, batch_size=batch_size, workers=0, seed=seed, features=of_seed)
        updates = make_optimizer(
            model.parameter_groups(), name=optimizer, lr=lr, head_lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        steps, warmup = len(loader), epochs / 10 if warmup_epochs is None else warmup_epochs
        rates = make_schedule(
            updates,
            kind=schedule,
            steps=epochs * steps,
            warmup_steps=round(warmup * steps),
            min_lr=min_lr,
            steps_per_epoch=steps,
        )
        record = Record(None if val is None or keep == "last" else "val/top1")
        runs.append(_Run(model, loader.sampler, accelerator.prepare(loader), updates, rates, record))
    for epoch in range(epochs):
        going = [run for run in runs if run.error is None]
        if not going:
            break
        bar = shown.epoch_bar(zip(*(run.begin(epoch, accelerator) for run in going), strict=True), epoch)
        for batches in bar:
            with accelerator.autocast():
                losses = folded_losses([run.model for run in going], batches, label_smoothing)
            accelerator.backward(torch.stack([loss for loss, _ in losses]).sum())
            for run, (loss, logits), (_, labels) in zip(going, losses, batches, strict=True):
                run.step(loss, logits, labels)
        for run in going:
            run.end(epoch, epochs, val_batches, accelerator, shown)
    return [run.finished(epochs) for run in runs]


def folded_losses(
    models: Sequence[Prompted], batches: Sequence[tuple[Tensor, Tensor]], label_smoothing: float = 0.0
) -> list[tuple[Tensor, Tensor]]:
    """The loss of each model on its batch (image features, labels), and its logits (B, C); texts go together."""
    side = models[0].text
    assert side is not None
    texts = side.class_features_of([model.method for model in models], models[0].classes)
    found = []
    for model, (images, labels), text in zip(models, batches, texts, strict=True):
        outputs = model.outputs(images, text=text, frozen=False)
        found.append((model.method.loss(outputs, labels, label_smoothing), outputs.logits.detach()))
    return found


class _Run:
    """One of the runs: its model, data, optimizer and schedule, and what it came to so far."""

    def __init__(
        self,
        model: Prompted,
        sampler: Any,
        batches: Any,
        updates: torch.optim.Optimizer,
        rates: Schedule,
        record: Record,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.batches = batches
        self.updates = updates
        self.rates = rates
        self.record = record
        self.steps = 0
        self.error: DivergedError | None = None
        self.started = time.perf_counter()

    def begin(self, epoch: int, accelerator: Accelerator) -> Any:
        """The batches of an epoch."""
        self.model.train()
        self.batches.set_epoch(epoch)
        self.sampler.set_epoch(epoch)
        self.tally = Tally(accelerator)
        self.rates.step_update(self.steps + 1)
        return self.tally.timed(self.batches)

    def step(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take the step of a batch whose gradient is there."""
        self.updates.step()
        self.updates.zero_grad()
        self.steps += 1
        self.rate = self.updates.param_groups[0]["lr"]
        self.rates.step_update(self.steps + 1)
        self.tally.add(loss, logits, labels)

    def end(self, epoch: int, epochs: int, val_batches: Any, accelerator: Accelerator, shown: Progress) -> None:
        """Evaluate, and keep the epoch if it is the best so far."""
        figures = self.tally.figures()
        if not math.isfinite(figures["train/loss"]):
            self.error = DivergedError(f"the loss is {figures['train/loss']} in epoch {epoch + 1}: give a smaller lr.")
            return
        row: dict[str, Any] = {"epoch": epoch + 1, "step": self.steps, "lr/prompts": self.rate, **figures}
        self.model.method.end_epoch(epoch + 1, epochs)
        if val_batches is not None:
            values = score(self.model, val_batches, Classification(len(self.model.classes)), accelerator, shown)
            row |= {f"val/{name}": value for name, value in values.items() if isinstance(value, float)}
        row["seconds"] = time.perf_counter() - self.started
        self.record.add(row, self.model)
        shown.epoch_line(row)

    def finished(self, epochs: int) -> FitResult | DivergedError:
        """What it came to, with the model at its best epoch."""
        self.model.eval()
        if self.error is not None:
            return self.error
        self.model.load_tuned_state(self.record.best["tuned"])
        return self.record.result(epochs=epochs)


def why_not_folded(models: Sequence[Prompted]) -> str | None:
    """Why models cannot be trained together, or None where they can."""
    first = models[0]
    for model in models:
        method = model.method
        if model.text is None or first.text is None:
            return "they have no text side"
        if not model.image_is_frozen or method.conditional or method.text_enters or method.text_change is not None:
            return f"{method.name} does more than to learn text prompts before the first block"
        if not method.prompts_text or method.needs_frozen:
            return f"{method.name} trains no text prompts, or by more than cross entropy"
        if model.text.logit_scale.requires_grad:
            return "they learn the scale of logits"
        if any(p is not q for p, q in zip(model.text.tower.parameters(), first.text.tower.parameters(), strict=False)):
            return "their text encoders are not one: make them by vpt.attach on one backbone"
        if (model.classes, method.template, method.num_context) != (
            first.classes,
            first.method.template,
            first.method.num_context,
        ):
            return "their classes or numbers of context tokens differ"
    return None


def _check(
    models: Sequence[Prompted],
    lrs: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    views: int,
) -> None:
    if not models or not len(models) == len(lrs) == len(seeds):
        raise VptError(f"{len(models)} models, {len(lrs)} lrs and {len(seeds)} seeds: give one of each for every run.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("views", views)):
        if value < 1:
            raise VptError(f"{name}={value}: give 1 or more.")
    why = why_not_folded(models)
    if why:
        raise VptError(f"these models cannot be trained together ({why}): train one after another with vpt.fit.")
