"""The training loop, for every method and model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import set_seed
from timm.utils import ModelEmaV3
from torch import nn

from vpt.data.loading import mix
from vpt.data.transforms import as_transform
from vpt.engine.evaluate import Source, as_loader, make_accelerator, score
from vpt.engine.optim import learning_rates, make_optimizer, make_schedule
from vpt.engine.rundir import RunDir
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification


@dataclass(frozen=True)
class FitResult:
    """What training came to.

    Attributes:
        history: a row for each epoch: "epoch" (from 1), "step", "lr", "train/loss", "train/top1",
            "images_per_second", "seconds", and "val/…" where it was evaluated.
        best_epoch: the epoch that the model was left at: the first with the highest "val/top1", or without
            validation images the last.
        metrics: the "val/…" figures of that epoch.
        seconds: of training and validation, all sessions of a resumed run together.
        stopped_early: whether `patience` ended it.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    metrics: dict[str, float]
    seconds: float
    stopped_early: bool


def fit(
    model: Prompted,
    train: Source,
    val: Source | None = None,
    *,
    epochs: int = 100,
    batch_size: int = 64,
    optimizer: str = "sgd",
    lr: float | None = None,
    base_lr: float | None = None,
    head_lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    warmup_epochs: float = 10,
    min_lr: float = 0.0,
    label_smoothing: float = 0.0,
    augment: str | ImageTransform = "none",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    accumulate: int = 1,
    clip_norm: float | None = None,
    ema: float | None = None,
    eval_every: int = 1,
    patience: int | None = None,
    workers: int = 0,
    seed: int = 0,
    run_dir: RunDir | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train what the model's method tunes, and its head; leave the model at its best epoch, in evaluation mode.

    Args:
        model: changed in place.
        train: `Samples`, a dataset of (PIL image or tensor, label), or a loader of (images, labels).
        val: likewise, to choose the best epoch by; without it the last epoch counts. Never test data.
        epochs: passes over `train`.
        batch_size: images a forward pass, in each process.
        optimizer: "sgd" (momentum), "adamw", or another name of timm's.
        lr: learning rate; or
        base_lr: learning rate for a batch of 256, scaled to the batch of a step.
        head_lr: the head's learning rate, in the unit of the one that is given.
        momentum: of SGD.
        weight_decay: of every trained parameter.
        warmup_epochs: of linear warm-up by steps, then half a cosine.
        min_lr: where the cosine ends.
        label_smoothing: of the training loss.
        augment: a name as in `vpt.data.transforms.augmentation`, or a transform of any library.
        precision: "fp32", or autocast to "bf16" or "fp16" (GPU only).
        accumulate: forward passes for one step.
        clip_norm: largest norm of the gradient of all trained parameters together.
        ema: decay of an exponential moving average of what is trained, which is then evaluated and kept.
        eval_every: epochs between evaluations on `val`; the last epoch is always evaluated.
        patience: stop after so many evaluations without a better top-1.
        workers: processes that load images.
        seed: of order, augmentation and dropout.
        run_dir: where to keep config, metrics and states.
        resume: go on with the run in `run_dir`, as if it had not been interrupted.
        overwrite: delete the run in `run_dir`.
        progress: show it.

    Raises:
        VptError: an argument that will not do, something in `run_dir`, or a loss that is not finite.
    """
    _check(epochs=epochs, batch_size=batch_size, accumulate=accumulate, eval_every=eval_every)
    accelerator = make_accelerator(precision, accumulate)
    model.to(accelerator.device)
    transform = as_transform(augment, model.preprocessing)
    batches = as_loader(train, model, batch_size=batch_size, workers=workers, transform=transform, seed=seed)
    val_batches = None if val is None else as_loader(val, model, batch_size=batch_size, workers=workers)
    steps_per_epoch = math.ceil(math.ceil(len(batches) / accelerator.num_processes) / accumulate)

    groups = model.parameter_groups()
    tuned = nn.ParameterList([p for parameters in groups.values() for p in parameters])
    step_batch = (batches.batch_size or batch_size) * accumulate * accelerator.num_processes
    rate, head_rate = learning_rates(lr=lr, base_lr=base_lr, head_lr=head_lr, batch=step_batch, optimizer=optimizer)
    updates = make_optimizer(
        groups, name=optimizer, lr=rate, head_lr=head_rate, momentum=momentum, weight_decay=weight_decay
    )
    schedule = make_schedule(
        updates, steps=epochs * steps_per_epoch, warmup_steps=round(warmup_epochs * steps_per_epoch), min_lr=min_lr
    )
    task = Classification(len(model.classes), label_smoothing=label_smoothing)
    average = ModelEmaV3(tuned, decay=ema) if ema is not None else None

    run = RunDir(run_dir, resume=resume, overwrite=overwrite) if isinstance(run_dir, str | Path) else run_dir
    state = run.training_state() if run else None
    history: list[dict[str, Any]] = state["history"] if state else []
    best: dict[str, Any] = state["best"] if state else {"epoch": 0, "metrics": {}, "tuned": {}}
    if state:
        model.load_tuned_state(state["tuned"])
        updates.load_state_dict(state["optimizer"])
        if average:
            average.load_state_dict(state["ema"])
    elif model.needs_images:
        sample = as_loader(train, model, batch_size=batch_size, workers=0, seed=seed)
        model.initialise(next(iter(sample))[0].to(accelerator.device))

    sampler, forward = getattr(batches, "sampler", None), model
    batches, val_batches, updates = accelerator.prepare(batches, val_batches, updates)
    forward = accelerator.prepare(model) if accelerator.num_processes > 1 else model
    shown = Progress(enabled=progress and accelerator.is_main_process, epochs=epochs, done=len(history))
    seconds_before = history[-1]["seconds"] if history else 0.0
    started = time.perf_counter()

    for epoch in range(len(history), epochs):
        since_best = sum("val/top1" in row for row in history[best["epoch"] :])
        if patience is not None and since_best >= patience:
            break
        set_seed(mix(seed, epoch))
        batches.set_epoch(epoch)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        model.train()
        epoch_started = time.perf_counter()
        total_loss, correct, seen = 0.0, 0.0, 0
        step = epoch * steps_per_epoch
        bar = shown.epoch_bar(batches, epoch)
        for index, batch in enumerate(bar):
            schedule.step_update(step + 1)
            with accelerator.accumulate(forward):
                with accelerator.autocast():
                    loss, logits = task.loss(forward, batch)
                accelerator.backward(loss)
                if clip_norm is not None and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(tuned, clip_norm)
                updates.step()
                updates.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                if average:
                    average.update(tuned)
            total_loss += loss.detach() * len(batch[1])
            correct += (logits.argmax(-1) == batch[1]).sum()
            seen += len(batch[1])
            if index % 10 == 9 or index + 1 == len(batches):
                mean_loss, top1 = float(total_loss) / seen, float(correct) / seen
                if not math.isfinite(mean_loss):
                    raise VptError(
                        f"the loss is {mean_loss} in epoch {epoch + 1}, step {step}, at learning rate "
                        f"{updates.param_groups[0]['lr']:.3g}: give a smaller one, or clip_norm, or precision='fp32'."
                    )
                speed = seen * accelerator.num_processes / (time.perf_counter() - epoch_started)
                shown.figures(bar, loss=mean_loss, top1=top1, images_per_second=speed)
        row = {
            "epoch": epoch + 1,
            "step": step,
            "lr": updates.param_groups[0]["lr"],
            "train/loss": mean_loss,
            "train/top1": top1,
            "images_per_second": speed,
        }
        own = [p.detach().clone() for p in tuned] if average else []
        if average:
            _copy(average.module, tuned)
        last = epoch + 1 == epochs
        if val_batches is not None and (last or (epoch + 1) % eval_every == 0):
            values = score(model, val_batches, task, accelerator, shown)
            row |= {f"val/{name}": value for name, value in values.items() if isinstance(value, float)}
        row["seconds"] = seconds_before + time.perf_counter() - started
        history.append(row)
        improved = val_batches is None or row.get("val/top1", -1.0) > best["metrics"].get("val/top1", -1.0)
        if improved:
            best = {
                "epoch": epoch + 1,
                "metrics": {name: value for name, value in row.items() if name.startswith("val/")},
                "tuned": {name: tensor.cpu().clone() for name, tensor in model.tuned_state().items()},
            }
        if run and accelerator.is_main_process:
            if improved:
                run.save_best(model, best["metrics"])
        if average:
            _copy(own, tuned)
        if run and accelerator.is_main_process:
            training = {
                "tuned": model.tuned_state(),
                "optimizer": updates.state_dict(),
                "ema": average.state_dict() if average else None,
                "history": history,
                "best": best,
            }
            run.save_last(model, row, training)
            run.write_metrics(history)
        shown.epoch_line(row)

    model.load_tuned_state({name: tensor.to(accelerator.device) for name, tensor in best["tuned"].items()})
    model.eval()
    return FitResult(
        history, best["epoch"], best["metrics"], history[-1]["seconds"], stopped_early=len(history) < epochs
    )


@torch.no_grad()
def _copy(source: Any, target: Any) -> None:
    for from_, to in zip(source, target, strict=True):
        to.copy_(from_)


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise VptError(f"{name}={value}: give 1 or more.")
