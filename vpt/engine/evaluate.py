"""Metrics of a model on labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vpt.capture import repeated
from vpt.data.base import Samples
from vpt.data.given import checked_source
from vpt.data.loading import loader
from vpt.data.pairs import Pairs
from vpt.engine.retrieval import measure_retrieval
from vpt.engine.speed import switched
from vpt.engine.workers import told_workers
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.modes import evaluating
from vpt.options import typed
from vpt.precision import full_precision
from vpt.processes import processes
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification

Source = Samples | Pairs | Dataset[Any] | DataLoader[Any]

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@typed
@switched
def evaluate(
    model: Prompted,
    data: Source,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    compile: bool = False,
    workers: int = 0,
    progress: bool = True,
    groups: Mapping[str, Sequence[int]] | None = None,
    outputs: list[Any] | None = None,
) -> dict[str, Any]:
    """Loss, top-1, top-5, mean per class and expected calibration error, and the confusion matrix.

    Of images with captions: recalls and median ranks of retrieval, as in `vpt.tasks.retrieval`.

    Args:
        model: what is measured; afterwards in the mode it was in.
        data: `Samples` or `Pairs`, a dataset of (image or tensor, label), or a loader of (images, labels). Where it
            tells the names of its classes, as folders do, labels are found by these among the model's.
        batch_size: images a batch; no metric depends on it, except for rounding.
        precision: "fp32", or autocast to "bf16" or "fp16".
        compile: run the blocks through `torch.compile`.
        workers: processes that load images.
        progress: show a bar in a terminal or notebook.
        groups: names of parts of `data`, and the indices of their images, for a top-1 of each.
        outputs: a list that logits (B, C) and labels (B,) of each batch are added to, in the order of the data.

    Returns:
        Shares from 0 to 1 under "top1", "top5", "mean_per_class" and "ece", and "top1/NAME" for each group; "loss";
        and "confusion", counts (C, C) with a row for each true class.

    Raises:
        VptError: what `vpt.data.given.checked_source` raises.
    """
    # Other classes than those that were trained, if only as many, have no right answers.
    data = checked_source(data, model.classes, preprocessing=model.preprocessing)
    accelerator = make_accelerator(precision)
    model.to(accelerator.device)
    batches = accelerator.prepare(as_loader(data, model, batch_size=batch_size, workers=workers))
    task = Classification(len(model.classes))
    shown = Progress(enabled=progress and accelerator.is_main_process)
    with told_workers():
        if isinstance(data, Pairs):
            return measure_retrieval(model, data, batches, accelerator, shown)
        return score(model, batches, task, accelerator, shown, groups, outputs)


@torch.no_grad()
def score(
    model: Prompted,
    batches: Any,
    task: Classification,
    accelerator: Accelerator,
    progress: Progress,
    groups: Mapping[str, Sequence[int]] | None = None,
    outputs: list[Any] | None = None,
) -> dict[str, Any]:
    """`evaluate` over prepared batches."""
    if not len(batches):
        raise VptError("there is nothing to evaluate: the data set is empty.")
    metrics = task.metrics().to(accelerator.device)
    total_loss = torch.zeros((), device=accelerator.device)
    count, hits = 0, []

    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            logits: Tensor = model(images)
            return logits

    with evaluating(model):
        model.compile_prompts()
        logits_of = repeated(forward, model, len(batches))
        for batch in progress.bar(batches, "evaluating"):
            logits = logits_of(batch[0])
            logits, labels = accelerator.gather_for_metrics((full_precision(logits), batch[1]))
            total_loss = total_loss + torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            hits.append(logits.argmax(-1) == labels)
            metrics.update(logits, labels)
            count += len(labels)
            if outputs is not None:
                outputs.append((logits.cpu(), labels.cpu()))
    values: dict[str, Any] = {"loss": total_loss.item() / count}
    for name, value in metrics.compute().items():
        values[name] = value.tolist() if value.ndim else value.item()
    # Batches come in the order of the data, those of several processes too.
    right = torch.cat(hits).float().cpu()
    for name, indices in (groups or {}).items():
        values[f"top1/{name}"] = right[list(indices)].mean().item()
    return values


def make_accelerator(precision: str, accumulate: int = 1) -> Accelerator:
    """Devices and processes as `torchrun` or `accelerate launch` set them up, or those of this process alone.

    Raises:
        VptError: a precision that there is not, or that this machine does not have; or processes that cannot work
            together.
    """
    processes()
    if precision not in PRECISIONS:
        raise VptError(f"precision={precision!r} is not one of {', '.join(PRECISIONS)}.")
    if precision == "fp16" and not torch.cuda.is_available():
        raise VptError("precision='fp16' needs a GPU: say bf16 or fp32.")
    # One process may train more than once, with other precisions: Accelerate keeps the first one's.
    AcceleratorState._reset_state()
    return Accelerator(
        mixed_precision=PRECISIONS[precision],
        gradient_accumulation_steps=accumulate,
        # A GPU goes on with the step before while the images of the next one are copied to it.
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
    )


def as_loader(
    data: Source,
    model: Prompted,
    *,
    batch_size: int,
    workers: int,
    transform: Any = None,
    seed: int | None = None,
    features: Tensor | None = None,
    taught: Tensor | None = None,
    drop_last: bool = False,
    unlabelled: bool = False,
    what: str = "data",
) -> DataLoader[Any]:
    """A loader of `data`, in an order that `seed` shuffles; a ready loader is taken as it is. Errors call it `what`.

    Images of `unlabelled` data may have no label.

    Raises:
        VptError: what `vpt.data.given.checked_source` raises.
    """
    data = checked_source(
        data, model.classes, what=what, by_number=True, unlabelled=unlabelled, preprocessing=model.preprocessing
    )
    if isinstance(data, DataLoader):
        return data
    if transform is None:
        transform = model.preprocessing.transform()
    return loader(
        data,
        transform,
        batch_size=batch_size,
        shuffle=seed is not None,
        seed=seed,
        workers=workers,
        tokenize=model.tokenize if isinstance(data, Pairs) else None,
        features=features,
        taught=taught,
        drop_last=drop_last,
    )
