"""What a run needs before its first step: data, features and optimizer, ready on the device. Nothing is written."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vpt.capture import recorder_of
from vpt.data.aligned import aligned
from vpt.data.base import Samples
from vpt.data.pairs import Pairs
from vpt.data.transforms import Twice, as_transform
from vpt.digest import of_bytes
from vpt.engine.arguments import check_decay, check_search, check_warmup
from vpt.engine.average import Average, kept_epoch
from vpt.engine.evaluate import Source, as_loader, make_accelerator, score
from vpt.engine.features import chosen_views, features_once, image_features, prepare_method, search_method
from vpt.engine.optim import learning_rates, make_optimizer, make_schedule
from vpt.engine.record import Record
from vpt.engine.replicas import make_alike
from vpt.engine.retrieval import measure_retrieval
from vpt.engine.settings import Settings
from vpt.engine.shares import shared
from vpt.engine.steps import StepLoss, Steps
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.preprocessing import ImageTransform
from vpt.report.progress import Progress
from vpt.saving import fingerprint
from vpt.tasks.classification import Classification
from vpt.tasks.image_text import ImageText


class Preparation:
    """The parts of a run.

    Args:
        model: what is trained; it is moved to the device.
        train: images to train on.
        val: images to choose the best epoch by.
        settings: of the run.
        task: the loss of images with captions.
        progress: show it.

    Raises:
        VptError: an argument that will not do.
    """

    def __init__(
        self,
        model: Prompted,
        train: Source,
        val: Source | None,
        settings: Settings,
        *,
        task: ImageText | None,
        progress: bool,
    ) -> None:
        self.model, self.train, self.val, self.settings = model, train, val, settings
        check_search(model, val)
        self.keep = kept_epoch(model, keep=settings.keep, ema=settings.ema, patience=settings.patience)
        captions = (task or ImageText()) if isinstance(train, Pairs) else None
        if captions:
            captions.check(model)
        views = chosen_views(model, settings.views, still=settings.augment == "none")
        self.accelerator = make_accelerator(settings.precision, settings.accumulate)
        self.recorder = recorder_of(self.accelerator, settings.graph, exchanges=captions is not None)
        model.to(self.accelerator.device)
        self.shown = Progress(enabled=progress and self.accelerator.is_main_process, epochs=settings.epochs)
        self._load(views)
        self.job = captions or Classification(len(model.classes), label_smoothing=settings.label_smoothing)
        # A method may have parameters only now that it has seen the features of the training images.
        self.groups = model.parameter_groups()
        self.epochs = settings.epochs
        if settings.steps is not None and self.groups:
            self.epochs = self.shown.epochs = math.ceil(settings.steps / self._per_epoch)
            check_warmup(settings.warmup_epochs, self.epochs)

    def _load(self, views: int) -> None:
        """Loaders of the images, or of their features where training leaves them as they are."""
        model, settings = self.model, self.settings
        loading: dict[str, Any] = {"batch_size": settings.batch_size, "workers": settings.workers}

        def once(data: Any, transform: ImageTransform, views: int, seed: int | None) -> Tensor | None:
            return features_once(
                model, data, transform, self.accelerator, self.shown, views=views, seed=seed, **loading
            )

        transform = as_transform(settings.augment, model.preprocessing)
        if model.method.two_views:
            transform = Twice(transform)
        taught = self._taught(transform, views, loading)
        views = 0 if model.method.classifier.needs_teacher else views
        learns = bool(model.parameter_groups())
        known = (
            once(self.train, transform, views, settings.seed)
            if learns or model.method.classifier.needs_features
            else None
        )
        if model.method.classifier.needs_features:
            prepare_method(model, self.train, known, self.accelerator)
        own: dict[str, Any] = {"transform": transform, "seed": settings.seed, "drop_last": settings.drop_last}
        own["unlabelled"] = model.method.transductive
        self.loader = as_loader(self.train, model, features=known, taught=taught, what="train", **own, **loading)
        self.val_features = once(self.val, model.preprocessing.transform(), min(views, 1), None)
        val_loader = None
        if self.val is not None:
            val_loader = as_loader(self.val, model, features=self.val_features, what="val", **loading)
        self.batches = shared(self.loader, self.accelerator)
        self.val_batches = self.accelerator.prepare(val_loader)

    def _taught(self, transform: ImageTransform, views: int, loading: dict[str, Any]) -> Tensor | None:
        """What the teacher's image encoder makes of the training images, (V, N, T), where that is computed once.

        Raises:
            VptError: there is no teacher, and one is needed.
        """
        if not self.model.method.classifier.needs_teacher:
            return None
        teacher = self.model.teacher_on(self.accelerator.device)
        if teacher is None:
            raise VptError(f"{self.model.method.name} has no teacher: give method.teacher=RUN, or call model.teach(…).")
        if not views or not isinstance(self.train, Samples):
            return None
        seed = self.settings.seed
        return image_features(
            teacher, self.train, transform, self.accelerator, self.shown, views=views, seed=seed, **loading
        )

    @property
    def _per_epoch(self) -> int:
        return math.ceil(len(self.batches) / self.settings.accumulate)

    @cached_property
    def average(self) -> Average:
        """The moving average of what is trained."""
        return Average([parameter for group in self.groups.values() for parameter in group], self.settings.ema)

    def steps(self) -> Steps:
        """Optimizer, schedule and all else that an epoch needs."""
        settings, per_epoch = self.settings, self._per_epoch
        total = settings.steps or self.epochs * per_epoch
        batch = self.loader.batch_size or settings.batch_size
        rate, head_rate = learning_rates(
            lr=settings.lr,
            base_lr=settings.base_lr,
            head_lr=settings.head_lr,
            batch=batch * settings.accumulate * self.accelerator.num_processes,
            optimizer=settings.optimizer,
        )
        check_decay(settings.weight_decay, max(rate, head_rate))
        updates = make_optimizer(
            self.groups,
            name=settings.optimizer,
            lr=rate,
            head_lr=head_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            eps=settings.eps,
            spared=biases(self.model) if settings.no_decay == "biases" else (),
            scaled=self.accelerator.scaler is not None,
        )
        warmup = self.epochs / 10 if settings.warmup_epochs is None else settings.warmup_epochs
        rates = make_schedule(
            updates,
            kind=settings.schedule,
            steps=total,
            warmup_steps=round(warmup * per_epoch),
            min_lr=settings.min_lr,
            steps_per_epoch=per_epoch,
            windows=self._windows(updates, per_epoch, total),
        )
        loss: nn.Module = StepLoss(self.model, self.job)
        if self.accelerator.num_processes > 1:
            if self.recorder is None:
                loss = self.accelerator.prepare(loss)
            else:
                make_alike(self.model)
        return Steps(
            self.accelerator,
            loss,
            self.batches,
            self.loader.sampler,
            updates,
            rates,
            groups=self.groups,
            average=self.average,
            clip_norm=settings.clip_norm,
            per_epoch=per_epoch,
            total=total,
            seed=settings.seed,
            recorder=self.recorder,
            compiled=settings.compile,
        )

    def _windows(self, updates: Optimizer, per_epoch: int, total: int) -> list[tuple[int, int]] | None:
        """First step and end of what each of the optimizer's groups is trained in, where a method has stages."""
        stages = self.model.method.classifier.stages(self.epochs)
        if not stages:
            return None
        if self.epochs < 2:
            raise VptError(f"{self.model.method.name} trains in two stages, each an epoch or more: give 2 or more.")
        of = {id(parameter): name for name, group in self.groups.items() for parameter in group}
        names = [of[id(group["params"][0])] for group in updates.param_groups]
        every = (0, self.epochs)
        found = [stages.get(name, every) for name in names]
        return [(first * per_epoch, min(end * per_epoch, total)) for first, end in found]

    def record(self) -> Record:
        """An empty record, which knows what the best epoch is chosen by."""
        return Record(None if self.val is None or self.keep == "last" else f"val/{self.job.selects}")

    def initialise(self) -> None:
        """Have prompts that begin as images do so."""
        if self.model.needs_images:
            size, seed = self.settings.batch_size, self.settings.seed
            images = next(iter(as_loader(self.train, self.model, batch_size=size, workers=0, seed=seed)))[0]
            self.model.initialise(images.to(self.accelerator.device))

    def look(self, epoch: int) -> None:
        """Before epoch 0, 1, …: show the method features of all training images, where it looks at them.

        Raises:
            VptError: the images have no labels.
        """
        method, head = self.model.method, self.model.method.own_head
        if head is None or head.looks == "never" or (head.looks == "once" and epoch > 0):
            return
        if not isinstance(self.train, Samples):
            raise VptError(f"{method.name} looks at all training images: give labelled `Samples`.")
        settings = self.settings
        features = image_features(
            self.model,
            self.train,
            self.model.preprocessing.transform(),
            self.accelerator,
            self.shown,
            views=1,
            batch_size=settings.batch_size,
            workers=settings.workers,
            seed=None,
        )[0]
        labels = aligned(self.train, self.model.classes, by_number=True).labels
        device = self.accelerator.device
        head.look(features.to(device), torch.tensor(labels, device=device))

    def validate(self) -> dict[str, float]:
        """Figures on the validation images, if there are any."""
        if self.val_batches is None:
            return {}
        if isinstance(self.val, Pairs):
            values = measure_retrieval(self.model, self.val, self.val_batches, self.accelerator, self.shown)
        else:
            task = Classification(len(self.model.classes))
            values = score(self.model, self.val_batches, task, self.accelerator, self.shown)
        return {f"val/{name}": value for name, value in values.items() if isinstance(value, float)}

    def search(self) -> bool:
        """Whether the method chose by the validation images: where it does, and there are any."""
        return search_method(self.model, self.val, self.val_features, self.accelerator)

    def facts(self) -> dict[str, Any]:
        """What the numbers of the run depend on: processes, frozen weights, arguments, and which images there are."""
        data = {"train": _facts(self.train), "val": None if self.val is None else _facts(self.val)}
        return {
            "processes": self.accelerator.num_processes,
            "backbone": fingerprint(self.model.frozen_state()),
            "asked": self.settings.recorded(),
            "data": data,
        }


def biases(model: nn.Module) -> list[nn.Parameter]:
    """Parameters whose name ends in "bias"."""
    return [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]


def _facts(data: Any) -> dict[str, Any]:
    if not isinstance(data, Samples | Pairs):
        return {"size": len(data)}
    # The last two parts of a path, so that a data set may be moved.
    names = ["/".join(Path(data.name(index)).parts[-2:]) for index in range(len(data))]
    said = data.labels if isinstance(data, Samples) else data.captions
    return {"size": len(data), "digest": of_bytes(repr(list(zip(names, said, strict=True))).encode())}
