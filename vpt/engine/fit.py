"""The training loop, for every method and model."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from vpt.data.pairs import Pairs
from vpt.data.transforms import as_transform
from vpt.engine.arguments import (
    check_counts,
    check_not_negative,
    check_schedule,
    check_search,
    check_shares,
    check_warmup,
)
from vpt.engine.average import Average, kept_epoch
from vpt.engine.evaluate import Source, as_loader, make_accelerator, score
from vpt.engine.features import chosen_views, features_once, prepare_method, search_method
from vpt.engine.optim import ScheduleKind, learning_rates, make_optimizer, make_schedule
from vpt.engine.record import FitResult, Record
from vpt.engine.retrieval import measure_retrieval
from vpt.engine.rundir import RunDir
from vpt.engine.speed import switched
from vpt.engine.steps import StepLoss, Steps
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification
from vpt.tasks.image_text import ImageText


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
    check_counts(
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        eval_every=eval_every,
        patience=patience,
    )
    check_not_negative(
        momentum=momentum, weight_decay=weight_decay, eps=eps, min_lr=min_lr, clip_norm=clip_norm, workers=workers
    )
    check_shares(label_smoothing=label_smoothing, ema=ema)
    check_schedule(schedule, warmup_epochs=warmup_epochs, min_lr=min_lr)
    check_search(model, val)
    keep = kept_epoch(model, keep=keep, ema=ema, patience=patience)
    if steps is None:
        check_warmup(warmup_epochs, epochs)
    task = (task or ImageText()) if isinstance(train, Pairs) else None
    if task:
        task.check(model)
    views = chosen_views(model, views, still=augment == "none")

    run = RunDir(run_dir, resume=resume, overwrite=overwrite) if isinstance(run_dir, str | Path) else run_dir
    begins = run is not None and run is not run_dir
    accelerator = make_accelerator(precision, accumulate)
    model.to(accelerator.device)
    shown = Progress(enabled=progress and accelerator.is_main_process, epochs=epochs)

    loading: dict[str, Any] = {"batch_size": batch_size, "workers": workers}

    def once(data: Any, transform: ImageTransform, views: int, seed: int | None) -> Tensor | None:
        return features_once(model, data, transform, accelerator, shown, views=views, seed=seed, **loading)

    transform = as_transform(augment, model.preprocessing)
    learns = bool(model.parameter_groups())
    features = once(train, transform, views, seed) if learns or model.method.needs_features else None
    if model.method.needs_features:
        prepare_method(model, train, features, accelerator)
    loader = as_loader(train, model, transform=transform, seed=seed, features=features, drop_last=drop_last, **loading)
    val_features = once(val, model.preprocessing.transform(), min(views, 1), None)
    val_loader = None if val is None else as_loader(val, model, features=val_features, **loading)
    batches, val_batches = accelerator.prepare(loader, val_loader)
    job = task or Classification(len(model.classes), label_smoothing=label_smoothing)

    def validate() -> dict[str, float]:
        if val_batches is None:
            return {}
        if isinstance(val, Pairs):
            values = measure_retrieval(model, val, val_batches, accelerator, shown)
        else:
            values = score(model, val_batches, Classification(len(model.classes)), accelerator, shown)
        return {f"val/{name}": value for name, value in values.items() if isinstance(value, float)}

    # A method may have parameters only now that it has seen the features of the training images.
    groups = model.parameter_groups()
    if not groups:
        search_method(model, val, val_features, accelerator)
        return _as_it_is(model, validate(), run, begins=begins)

    per_epoch = math.ceil(len(batches) / accumulate)
    if steps is not None:
        epochs = shown.epochs = math.ceil(steps / per_epoch)
        check_warmup(warmup_epochs, epochs)
    total = steps or epochs * per_epoch
    step_batch = (loader.batch_size or batch_size) * accumulate * accelerator.num_processes
    rate, head_rate = learning_rates(lr=lr, base_lr=base_lr, head_lr=head_lr, batch=step_batch, optimizer=optimizer)
    updates = make_optimizer(
        groups, name=optimizer, lr=rate, head_lr=head_rate, momentum=momentum, weight_decay=weight_decay, eps=eps
    )
    rates = make_schedule(
        updates,
        kind=schedule,
        steps=total,
        warmup_steps=round((epochs / 10 if warmup_epochs is None else warmup_epochs) * per_epoch),
        min_lr=min_lr,
        steps_per_epoch=per_epoch,
    )
    updates = accelerator.prepare(updates)
    loss: nn.Module = StepLoss(model, job)
    if accelerator.num_processes > 1:
        loss = accelerator.prepare(loss)
    average = Average([parameter for group in groups.values() for parameter in group], ema)
    training = Steps(
        accelerator,
        loss,
        batches,
        loader.sampler,
        updates,
        rates,
        groups=groups,
        average=average,
        clip_norm=clip_norm,
        per_epoch=per_epoch,
        total=total,
        seed=seed,
    )

    if run and begins:
        run.begin()
    record = Record(None if val is None or keep == "last" else f"val/{job.selects}")
    state = run.training_state() if run else None
    if state:
        model.load_tuned_state(state["tuned"])
        record.load_state_dict(state)
        training.load_state_dict(state)
    elif model.needs_images:
        images = next(iter(as_loader(train, model, batch_size=batch_size, workers=0, seed=seed)))[0]
        model.initialise(images.to(accelerator.device))

    shown.done = len(record.history)
    started = time.perf_counter() - record.seconds
    for epoch in range(len(record.history), epochs):
        if patience is not None and record.since_best() >= patience:
            break
        row = training.epoch(epoch, shown)
        model.method.end_epoch(epoch + 1, epochs)
        with average.applied():
            if (epoch + 1) % eval_every == 0 or epoch + 1 == epochs:
                row |= validate()
            row["seconds"] = time.perf_counter() - started
            if record.add(row, model) and run:
                run.save_best(model, record.best["metrics"])
        if run:
            run.save_last(model, row, {"tuned": model.tuned_state(), **training.state_dict(), **record.state_dict()})
            run.write_metrics(record.history)
        shown.epoch_line(row)

    model.load_tuned_state(record.best["tuned"])
    model.eval()
    if search_method(model, val, val_features, accelerator):
        record.best["metrics"] = validate()
        if run:
            run.save_best(model, record.best["metrics"])
    return record.result(epochs=epochs)


def _as_it_is(model: Prompted, metrics: dict[str, float], run: RunDir | None, *, begins: bool) -> FitResult:
    """The result of a method that trains nothing."""
    row = {"epoch": 0, **metrics}
    if run:
        if begins:
            run.begin()
        run.save_best(model, metrics)
        run.write_metrics([row])
    model.eval()
    return FitResult([row], 0, metrics, 0.0, stopped_early=False)
