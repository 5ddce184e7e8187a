"""The training loop, for every method and model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vpt.capture import GraphChoice
from vpt.engine.callbacks import Callback, Callbacks, Training
from vpt.engine.evaluate import Source
from vpt.engine.keeping import Keeping
from vpt.engine.optim import ScheduleKind
from vpt.engine.prepare import Preparation
from vpt.engine.randomness import put_back
from vpt.engine.record import FitResult
from vpt.engine.rundir import RunDir, room_needed
from vpt.engine.settings import Settings
from vpt.engine.speed import switched
from vpt.engine.trackers import TrackerChoice, Trackers
from vpt.engine.workers import told_workers
from vpt.model import Prompted
from vpt.options import typed
from vpt.preprocessing import ImageTransform
from vpt.tasks.image_text import ImageText


@typed
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
    no_decay: Literal["biases"] | None = None,
    eps: float | None = None,
    warmup_epochs: float | None = None,
    min_lr: float = 0.0,
    schedule: ScheduleKind = "cosine",
    label_smoothing: float = 0.0,
    augment: str | ImageTransform = "none",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    compile: bool = False,
    recompute: Literal["none", "mlp", "block"] = "none",
    graph: GraphChoice = "auto",
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
    callbacks: Sequence[Callback] = (),
    trackers: list[TrackerChoice] | None = None,
    run_dir: RunDir | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train what the model's method tunes, and its head; leave the model at its best epoch, in evaluation mode.

    Args:
        model: changed in place.
        train: `Samples`, a dataset of (PIL image or tensor, label), or a loader of (images, labels); or `Pairs` of
            images and captions, for which the model needs a text side. A method that looks at no label takes -1.
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
        weight_decay: of every trained parameter; but
        no_decay: "biases" have none, as the head's in VPT's code.
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
        graph: capture forward and backward pass of a step as a CUDA graph after a few, and replay it: "auto" where a
            GPU can, and true to be told where it cannot. The numbers are the same, to rounding.
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
        seed: of order, augmentation and dropout, for which the generators of Python, numpy and torch are seeded; they
            go on afterwards from where they were.
        callbacks: called after each step and epoch, in every process; they may end the run.
        trackers: that are told the figures of each epoch: names that Accelerate has ("tensorboard", "wandb", "mlflow",
            "comet_ml", "aim", "clearml", "dvclive", "swanlab", "trackio", and those registered with it), each alone or
            as {name, project, and options of its own}; or Accelerate's trackers. By default TensorBoard's log in
            `run_dir`, where there is one.
        run_dir: where to keep config, metrics and states.
        resume: go on with the run in `run_dir`, as if it had not been interrupted.
        overwrite: begin anew; the run in `run_dir` is deleted when this one has come to its first save.
        progress: show it.

    Raises:
        VptError: an argument that will not do, something in `run_dir`, a run there that was begun otherwise, or a loss
            that is not finite.
    """
    settings = Settings.of(locals())
    with told_workers(), opened(run_dir, resume=resume, overwrite=overwrite) as run:
        tracked = Trackers(trackers, run.path if run else None)
        prepared = Preparation(model, train, val, settings, task=task, progress=progress)
        called = Callbacks(callbacks, Training(model, prepared.accelerator, epochs=prepared.epochs))
        if not prepared.groups:
            return _as_it_is(prepared, run, tracked, called)
        model.method.whole_steps = True
        try:
            with put_back(prepared.accelerator.device):
                return _train(prepared, run, tracked, called)
        finally:
            model.method.whole_steps = False
            tracked.end()


def _train(prepared: Preparation, run: RunDir | None, tracked: Trackers, called: Callbacks) -> FitResult:
    """Go through the epochs, and keep what each comes to."""
    model, settings, shown, epochs = prepared.model, prepared.settings, prepared.shown, prepared.epochs
    training, record = prepared.steps(), prepared.record()
    keeping = Keeping(model, training, record, prepared.average, run, prepared.facts())
    if run:
        run.check_room(room_needed(model))
        run.begin()
    if not keeping.go_on():
        prepared.initialise()
    tracked.begin(prepared.accelerator, _said(prepared, run), record.history)
    called.begin(record.history)
    shown.done = len(record.history)
    started = time.perf_counter() - record.seconds

    def measured(row: dict[str, Any]) -> dict[str, Any]:
        """A row with figures on validation images."""
        with prepared.average.applied():
            return row | prepared.validate()

    def kept(row: dict[str, Any]) -> None:
        """Take an epoch's row into the record, and keep what is to be kept of it."""
        with prepared.average.applied():
            row["seconds"] = time.perf_counter() - started
            better = record.add(row, model)
        keeping.epoch(row, better=better)
        tracked.log(row)

    for epoch in range(len(record.history), epochs):
        if settings.patience is not None and record.since_best() >= settings.patience:
            break
        prepared.look(epoch)
        row = training.epoch(epoch, shown, called)
        model.end_epoch(epoch + 1, epochs)
        if model.method.classifier.begins(epoch + 1, epochs):
            training.anew()
        due = (epoch + 1) % settings.eval_every == 0 or epoch + 1 == epochs or called.ended
        row = measured(row) if due else row
        kept(row)
        shown.epoch_line(row)
        model.eval()
        if called.epoch(row):
            if not due:
                # It is the last one now, which is always evaluated.
                record.history.pop()
                kept(measured(row))
            break

    model.load_tuned_state(record.best["tuned"])
    model.eval()
    if prepared.search():
        record.best["metrics"] = prepared.validate()
        if run:
            run.save_best(model, record.best["metrics"])
    called.end()
    return record.result(epochs=epochs, ended=called.ended)


def _as_it_is(prepared: Preparation, run: RunDir | None, tracked: Trackers, called: Callbacks) -> FitResult:
    """The result of a method that trains nothing."""
    model = prepared.model
    prepared.search()
    metrics = prepared.validate()
    row = {"epoch": 0, **metrics}
    if run:
        run.begin()
        run.save_best(model, metrics)
        run.write_metrics([row])
    try:
        tracked.begin(prepared.accelerator, _said(prepared, run), [row])
    finally:
        tracked.end()
    model.eval()
    called.begin([])
    called.epoch(row)
    called.end()
    return FitResult([row], 0, metrics, 0.0, stopped_early=False)


def _said(prepared: Preparation, run: RunDir | None) -> Mapping[str, Any]:
    """What a run is, for trackers: its config, or what was asked of `fit`."""
    if run and run.config is not None:
        return run.config
    return {"method": prepared.model.recipe["method"], "train": prepared.settings.recorded()}


@contextmanager
def opened(run: RunDir | str | Path | None, *, resume: bool, overwrite: bool) -> Iterator[RunDir | None]:
    """The run directory at a path, left at the end; one that the caller has made stays open."""
    if isinstance(run, str | Path):
        with RunDir(run, resume=resume, overwrite=overwrite) as made:
            yield made
    else:
        yield run
