"""The training loop, for every method and model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import set_seed
from torch import Tensor, nn

from vpt.data.base import Samples
from vpt.data.loading import EpochSampler, mix
from vpt.data.pairs import Pairs
from vpt.data.transforms import as_transform
from vpt.engine.average import Average, kept_epoch
from vpt.engine.evaluate import Source, as_loader, make_accelerator, score
from vpt.engine.features import image_features, prepare_method, search_method
from vpt.engine.optim import ScheduleKind, learning_rates, make_optimizer, make_schedule
from vpt.engine.retrieval import measure_retrieval
from vpt.engine.rundir import RunDir
from vpt.engine.speed import switched
from vpt.engine.tally import Tally
from vpt.errors import DivergedError, VptError
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification
from vpt.tasks.image_text import ImageText


@dataclass(frozen=True)
class FitResult:
    """What training came to.

    Attributes:
        history: a row for each epoch: "epoch" (from 1), "step", "lr/prompts" and so on for each group of
            parameters, "train/loss", "train/top1", "images_per_second", "data_wait" (share of the time that went by
            waiting for data), "seconds", and "val/…" where it was evaluated.
        best_epoch: the epoch that the model was left at: the first with the highest "val/top1"; without validation
            images, or where `keep` says so, the last.
        metrics: the "val/…" figures of that epoch.
        seconds: of training and validation, all sessions of a resumed run together.
        stopped_early: whether `patience` ended it.
    """

    history: list[dict[str, Any]] = field(repr=False)
    best_epoch: int
    metrics: dict[str, float]
    seconds: float
    stopped_early: bool


@switched
def fit(
    model: Prompted,
    train: Source,
    val: Source | None = None,
    *,
    epochs: int = 100,
    steps: int | None = None,
    batch_size: int = 64,
    drop_last: bool = False,
    optimizer: str = "sgd",
    lr: float | None = None,
    base_lr: float | None = None,
    head_lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    eps: float | None = None,
    warmup_epochs: float | None = None,
    min_lr: float = 0.0,
    schedule: ScheduleKind = "cosine",
    label_smoothing: float = 0.0,
    augment: str | ImageTransform = "none",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    compile: bool = False,
    recompute: Literal["none", "mlp", "block"] = "none",
    accumulate: int = 1,
    clip_norm: float | None = None,
    ema: float | None = None,
    eval_every: int = 1,
    patience: int | None = None,
    keep: Literal["best", "last"] | None = None,
    views: int | None = None,
    task: ImageText | None = None,
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
        train: `Samples`, a dataset of (PIL image or tensor, label), or a loader of (images, labels); or `Pairs` of
            images and captions, for which the model needs a text side.
        val: likewise, to choose the best epoch by; without it the last epoch counts. Never test data.
        epochs: passes over `train`; or
        steps: of the optimizer, in place of epochs, the last of which then ends early.
        batch_size: images a forward pass, in each process.
        drop_last: leave an epoch's last batch out where it is smaller than the others.
        optimizer: "sgd" (momentum), "adamw", or another name of timm's.
        lr: learning rate; or
        base_lr: learning rate for a batch of 256, scaled to the batch of a step.
        head_lr: the head's learning rate, in the unit of the one that is given.
        momentum: of SGD.
        weight_decay: of every trained parameter.
        eps: of Adam and its like; the optimizer's own by default.
        warmup_epochs: of linear warm-up; a tenth of the epochs by default. Schedules "cosine" and "vpt" have one.
        min_lr: where the cosine ends. Schedules "cosine" and "annealing" have it.
        schedule: of the learning rate, as `make_schedule` tells: "cosine" after a warm-up, by steps; "annealing", by
            steps without one; "coop" and "vpt", by epochs as in the code of these papers.
        label_smoothing: of the training loss.
        augment: a name as in `vpt.data.transforms.augmentation`, or a transform of any library.
        precision: "fp32", or autocast to "bf16" or "fp16" (GPU only).
        compile: run the blocks of both encoders through `torch.compile`, in training and evaluation.
        recompute: what the backward pass computes again in place of keeping it: the "mlp" of each block, which costs
            the least time, or each "block" whole, which keeps the least. "none" leaves the towers as they are set.
        accumulate: forward passes for one step; an epoch's last step, of fewer passes, is so much smaller.
        clip_norm: largest norm of the gradient of all trained parameters together.
        ema: decay of an exponential moving average of what is trained, which is then evaluated and kept.
        eval_every: epochs between evaluations on `val`; the last epoch is always evaluated.
        patience: stop after so many evaluations that were not better.
        keep: leave the model at the epoch that was best on `val`, or at the last one, as most papers do. "best" by
            default, and "last" for a method that averages what it learns over all epochs: it refuses "best", and
            `ema` and `patience` too.
        views: where training leaves image features as they are, compute them once, of so many augmented views of
            each image; epochs take them in turn. By default one where nothing is augmented; 0 computes them anew.
        task: the loss of images with captions; symmetric InfoNCE by default.
        workers: processes that load images.
        seed: of order, augmentation and dropout.
        run_dir: where to keep config, metrics and states.
        resume: go on with the run in `run_dir`, as if it had not been interrupted.
        overwrite: delete the run in `run_dir`.
        progress: show it.

    Raises:
        VptError: an argument that will not do, something in `run_dir`, or a loss that is not finite.
    """
    _check(
        1,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        eval_every=eval_every,
        patience=patience,
    )
    _check(
        0, momentum=momentum, weight_decay=weight_decay, min_lr=min_lr, clip_norm=clip_norm, workers=workers, eps=eps
    )
    _check(0, 1, label_smoothing=label_smoothing, ema=ema)
    _check_warmup(warmup_epochs, epochs if steps is None else math.inf)
    task = (task or ImageText()) if isinstance(train, Pairs) else None
    if task:
        task.check(model)
    if (warmup_epochs and schedule in ("coop", "annealing")) or (min_lr and schedule in ("coop", "vpt")):
        raise VptError(f"schedule={schedule!r} has no {'warmup_epochs' if warmup_epochs else 'min_lr'}: leave it out.")
    keep = kept_epoch(model, keep=keep, ema=ema, patience=patience)
    if model.method.searches and not (val is None or isinstance(val, Samples)):
        raise VptError(f"{model.method.name} chooses by features of validation images: give labelled `Samples` as val.")
    run = RunDir(run_dir, resume=resume, overwrite=overwrite) if isinstance(run_dir, str | Path) else run_dir
    accelerator = make_accelerator(precision, accumulate)
    model.to(accelerator.device)
    shown = Progress(enabled=progress and accelerator.is_main_process, epochs=epochs)
    transform = as_transform(augment, model.preprocessing)
    if views is None:
        views = int(augment == "none" and model.image_is_frozen)
    if views and not model.image_is_frozen:
        raise VptError(f"train.views={views}: {model.method.name} changes image features as it trains: leave it out.")
    once = partial(
        _features, model, accelerator=accelerator, progress=shown, batch_size=batch_size, workers=workers, views=views
    )
    trains = bool(model.parameter_groups()) or model.method.needs_features
    features = once(train, transform, seed=seed) if trains else None
    if model.method.needs_features:
        prepare_method(model, train, features, accelerator)
    loader = as_loader(
        train,
        model,
        batch_size=batch_size,
        workers=workers,
        transform=transform,
        seed=seed,
        features=features,
        drop_last=drop_last,
    )
    val_features = once(val, model.preprocessing.transform(), seed=None, views=min(views, 1))
    val_loader = (
        None if val is None else as_loader(val, model, batch_size=batch_size, workers=workers, features=val_features)
    )
    batches, val_batches = accelerator.prepare(loader, val_loader)
    steps_per_epoch = math.ceil(len(batches) / accumulate)
    if steps is not None:
        epochs = shown.epochs = math.ceil(steps / steps_per_epoch)
        _check_warmup(warmup_epochs, epochs)
    total = steps or epochs * steps_per_epoch
    job = task or Classification(len(model.classes), label_smoothing=label_smoothing)
    best_of = f"val/{job.selects}"

    def validate() -> dict[str, float]:
        if isinstance(val, Pairs):
            values = measure_retrieval(model, val, val_batches, accelerator, shown)
        else:
            values = score(model, val_batches, Classification(len(model.classes)), accelerator, shown)
        return {f"val/{name}": value for name, value in values.items() if isinstance(value, float)}

    groups = model.parameter_groups()
    tuned = [parameter for group in groups.values() for parameter in group]
    if not tuned:
        search_method(model, val, val_features, accelerator)
        return _as_it_is(model, {} if val is None else validate(), run, begin=run is not run_dir)
    average = Average(tuned, ema)
    step_batch = (loader.batch_size or batch_size) * accumulate * accelerator.num_processes
    rate, head_rate = learning_rates(lr=lr, base_lr=base_lr, head_lr=head_lr, batch=step_batch, optimizer=optimizer)
    updates = make_optimizer(
        groups, name=optimizer, lr=rate, head_lr=head_rate, momentum=momentum, weight_decay=weight_decay, eps=eps
    )
    warmup = epochs / 10 if warmup_epochs is None else warmup_epochs
    rates = make_schedule(
        updates,
        steps=total,
        warmup_steps=round(warmup * steps_per_epoch),
        min_lr=min_lr,
        kind=schedule,
        steps_per_epoch=steps_per_epoch,
    )
    updates = accelerator.prepare(updates)
    step_loss: nn.Module = _Loss(model, job)
    if accelerator.num_processes > 1:
        step_loss = accelerator.prepare(step_loss)

    if run is not run_dir and run is not None:
        run.begin()
    state = run.training_state() if run else None
    history: list[dict[str, Any]] = state["history"] if state else []
    best: dict[str, Any] = state["best"] if state else {"epoch": 0, "metrics": {}, "tuned": {}}
    if state:
        model.load_tuned_state(state["tuned"])
        updates.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(state["scaler"])
    elif model.needs_images:
        images = next(iter(as_loader(train, model, batch_size=batch_size, workers=0, seed=seed)))[0]
        model.initialise(images.to(accelerator.device))

    shown.done = len(history)
    seconds_before = history[-1]["seconds"] if history else 0.0
    started = time.perf_counter()
    for epoch in range(len(history), epochs):
        since_best = sum(best_of in row for row in history[best["epoch"] :])
        if patience is not None and since_best >= patience:
            break
        set_seed(mix(seed, epoch), device_specific=True)
        batches.set_epoch(epoch)
        if isinstance(loader.sampler, EpochSampler):
            loader.sampler.set_epoch(epoch)

        model.train()
        tally = Tally(accelerator)
        step = epoch * steps_per_epoch
        bar = shown.epoch_bar(batches, epoch)
        for index, batch in enumerate(tally.timed(bar)):
            rates.step_update(step + 1)
            with accelerator.accumulate(step_loss):
                with accelerator.autocast():
                    loss, logits, targets = step_loss(batch)
                accelerator.backward(loss)
                if clip_norm is not None and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(tuned, clip_norm)
                updates.step()
                updates.zero_grad()
            if accelerator.sync_gradients:
                step += 1
                average.update()
            tally.add(loss, logits, targets)
            ends = step == total and accelerator.sync_gradients
            if index % 10 == 9 or index + 1 == len(batches) or ends:
                figures = tally.figures()
                _finite(figures["train/loss"], epoch=epoch + 1, step=step, lr=updates.param_groups[0]["lr"])
                shown.figures(bar, figures)
            if ends and index + 1 < len(batches):
                batches.end()
                break

        used = {f"lr/{name}": group["lr"] for name, group in zip(groups, updates.param_groups, strict=True)}
        row = {"epoch": epoch + 1, "step": step, **used} | figures
        model.method.end_epoch(epoch + 1, epochs)
        with average.applied():
            if val_batches is not None and ((epoch + 1) % eval_every == 0 or epoch + 1 == epochs):
                row |= validate()
            row["seconds"] = seconds_before + time.perf_counter() - started
            history.append(row)
            if val_batches is None or keep == "last" or row.get(best_of, -1.0) > best["metrics"].get(best_of, -1.0):
                metrics = {name: value for name, value in row.items() if name.startswith("val/")}
                best = {"epoch": epoch + 1, "metrics": metrics, "tuned": _copied(model.tuned_state())}
                if run:
                    run.save_best(model, metrics)
        if run:
            training = {
                "tuned": model.tuned_state(),
                "optimizer": updates.state_dict(),
                "average": average.state_dict(),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
                "history": history,
                "best": best,
            }
            run.save_last(model, row, training)
            run.write_metrics(history)
        shown.epoch_line(row)

    model.load_tuned_state(best["tuned"])
    model.eval()
    if search_method(model, val, val_features, accelerator):
        best["metrics"] = validate()
        if run:
            run.save_best(model, best["metrics"])
    stopped_early = len(history) < epochs
    return FitResult(history, best["epoch"], best["metrics"], history[-1]["seconds"], stopped_early)


class _Loss(nn.Module):
    """A task's loss of a model as one module, which several processes can train together."""

    def __init__(self, model: Prompted, task: Classification | ImageText) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, logits and targets."""
        return self.task.loss(self.model, batch)


def _features(
    model: Prompted, data: Source | None, transform: ImageTransform, *, views: int, **options: Any
) -> Tensor | None:
    """Image features that are computed once, (views, N, F), where there are to be any."""
    wanted = views or (model.method.needs_features and model.image_is_frozen and data is not None)
    if not wanted or not isinstance(data, Samples | Pairs):
        return None
    return image_features(model, data, transform, views=views or 1, **options)


def _as_it_is(model: Prompted, metrics: dict[str, float], run: RunDir | None, *, begin: bool) -> FitResult:
    """The result of a method that trains nothing."""
    if run:
        if begin:
            run.begin()
        run.save_best(model, metrics)
        run.write_metrics([{"epoch": 0, **metrics}])
    model.eval()
    return FitResult([{"epoch": 0, **metrics}], 0, metrics, 0.0, stopped_early=False)


def _finite(loss: float, *, epoch: int, step: int, lr: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss is {loss} in epoch {epoch}, step {step}, at learning rate {lr:.3g}: give a smaller one, "
            "or clip_norm; what was saved before stays."
        )


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _check(low: float, high: float = math.inf, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise VptError(f"{name}={value}: give {low} {'or more' if high == math.inf else f'to {high}'}.")


def _check_warmup(warmup_epochs: float | None, epochs: float) -> None:
    if warmup_epochs is not None and not 0 <= warmup_epochs <= epochs:
        raise VptError(f"warmup_epochs={warmup_epochs} does not fit into epochs={epochs}: give less, or leave it out.")
