"""Many saved models over one frozen backbone: a batch may mix their tasks, and goes through the encoder once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from vpt import saving
from vpt.devices import chosen_device
from vpt.errors import VptError, did_you_mean
from vpt.methods.base import Method
from vpt.paths import model_folder
from vpt.predict import ImageLike, Prediction, as_picture, is_one, predictions
from vpt.preprocessing import transformed
from vpt.serving.plan import Step
from vpt.serving.tasks import Fingerprints, Task, read_task
from vpt.serving.together import encode_together
from vpt.text import TextSide
from vpt.towers import load as towers
from vpt.towers import saved
from vpt.towers.backbone import Backbone

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class PromptBank:
    """Saved prompts of any number of tasks, of several methods and label spaces, over one frozen backbone.

    Images of different tasks go through the encoder together, each with the prompts of its own task: keys and
    values of prompts are stacked for the batch, low-rank changes are added to the frozen products of all rows, and
    tasks that leave images as they are share one pass of each image. The results are those of each model alone, to
    rounding. Where a method tunes weights of the backbone itself (bias, partial-k, full), or image prompts depend on
    the image, a task's images go through the encoder by themselves, and it holds what it tunes as well.

    Tasks may be added, removed and replaced from any thread while others predict: a prediction is made with the tasks
    that were there when it began.

    Args:
        backbone: its name, or a live model, whose weights are shared.
        weights: a local file with them, as in `vpt.create`.
        dtype: what the frozen encoders are held in, "fp32" or "bf16"; a live model is left as it is.
        device: where they are; by default the GPU that `fit` would take, or the CPU. A live model is left where it is.
        tokenizer: of a live image-text model, as in `vpt.attach`.
        options: of the backbone, as in `vpt.create`.

    Raises:
        VptError: no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module | Backbone,
        *,
        weights: str | Path | None = None,
        dtype: str | None = None,
        device: str | None = None,
        tokenizer: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        live = isinstance(backbone, nn.Module)
        if isinstance(backbone, Backbone):
            found = backbone
        elif isinstance(backbone, nn.Module):
            found = towers.wrap(backbone, tokenizer)
        else:
            given = options if weights is None else {"weights": weights, **options}
            found = towers.with_tokenizer(towers.load(backbone, pretrained=True, **given), tokenizer)
        if dtype is not None and dtype not in PRECISIONS:
            raise VptError(f"dtype={dtype!r} is not one of {', '.join(PRECISIONS)}.")
        self.backbone = found
        for encoder in self._encoders():
            encoder.eval()
            if not live:
                # Of a live one another model may tune weights, and goes on to.
                encoder.requires_grad_(False)
                encoder.to(device=chosen_device(device), dtype=PRECISIONS[dtype] if dtype else None)
        self._fingerprint = Fingerprints()
        self._tasks: Mapping[str, Task] = {}
        self._changing = Lock()
        self._texts: TextSide | None = None

    @classmethod
    def open(
        cls,
        source: str | Path,
        *,
        weights: str | Path | None = None,
        dtype: str | None = None,
        device: str | None = None,
    ) -> Self:
        """A bank of what lies in a folder, on the backbone that the first of it names.

        Args:
            source: a folder of runs or saved models, each of which becomes a task by its folder's name; one run or
                saved model; or a repository of the hub.
            weights: as above.
            dtype: as above.
            device: as above.

        Raises:
            VptError: there is none, or they are of different backbones.
        """
        folder = Path(source)
        found = found_tasks(folder)
        if not found and folder.is_dir() and not _is_saved(folder):
            raise VptError(
                f"{folder} holds no run and no saved model: name a folder of them, one folder for each task."
            )
        found = found or {folder.name: str(source)}
        first = next(iter(found.values()))
        facts = saving.read(model_folder(first))[1]
        bank = cls(saved.load(facts.backbone, first, name=None, weights=weights), dtype=dtype, device=device)
        for name, place in found.items():
            bank.add(name, place)
        return bank

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Those that are there, by name."""
        return self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def add(self, name: str, source: str | Path) -> None:
        """Add what was learned for a task.

        Args:
            name: of the task from now on.
            source: a run, a folder that `save_pretrained` wrote, or a repository of the hub, "user/name" or
                "user/name@revision".

        Raises:
            VptError: there is a task of this name already, no such model, or one that was trained with another
                backbone.
        """
        if name in self._tasks:
            raise VptError(f"the bank has a task {name!r} already: replace it, or take another name.")
        self._put(name, source, new=True)

    def replace(self, name: str, source: str | Path) -> None:
        """Put another model in the place of a task's; arguments and errors are those of `add`."""
        self._task(name)
        self._put(name, source, new=False)

    def remove(self, name: str) -> None:
        """Take a task out.

        Raises:
            VptError: there is none of this name.
        """
        with self._changing:
            self._task(name)
            self._tasks = {key: task for key, task in self._tasks.items() if key != name}

    def _put(self, name: str, source: str | Path, *, new: bool) -> None:
        # One at a time: the encoders are looked at while a task is made, and never changed.
        with self._changing:
            task = read_task(name, source, self.backbone, self._fingerprint)
            if new and name in self._tasks:
                raise VptError(f"the bank has a task {name!r} already: replace it, or take another name.")
            self._tasks = {**self._tasks, name: task}

    def predict(
        self, images: ImageLike | Sequence[ImageLike], tasks: str | Sequence[str], *, batch_size: int = 32
    ) -> Prediction | list[Prediction]:
        """Class probabilities of images, each for a task of its own: a `Prediction`, or a list of them for a list.

        Args:
            images: files, PIL's pictures, arrays or tensors, as `Prompted.predict` takes them.
            tasks: one name for all images, or one for each. An image that is asked of several tasks stands there
                several times; the same object is read once.
            batch_size: images that go through the encoder at once.

        Raises:
            VptError: an image cannot be read, there is no such task, or not as many tasks as images.
        """
        if batch_size < 1:
            raise VptError(f"batch_size={batch_size}: give 1 or more.")
        if is_one(images):
            return self._predicted([images], [tasks] if isinstance(tasks, str) else tasks, 1)[0]
        return self._predicted(cast("Sequence[ImageLike]", images), tasks, batch_size)

    def _predicted(self, images: Sequence[ImageLike], tasks: str | Sequence[str], batch_size: int) -> list[Prediction]:
        chosen = self._chosen(tasks, len(images))
        found: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            found += self._predictions(list(images[some]), chosen[some])
        return found

    def logits(self, images: Tensor, tasks: str | Sequence[str]) -> list[Tensor]:
        """Preprocessed images (B, 3, H, W) to logits (C,), each over the classes of its own task.

        Args:
            images: as the encoder takes them.
            tasks: one for all, or one for each.

        Raises:
            VptError: there is no such task, or not as many tasks as images.
        """
        return self.logits_of(list(images), self._chosen(tasks, len(images)))

    def _predictions(self, images: Sequence[ImageLike], tasks: Sequence[Task]) -> list[Prediction]:
        seen: dict[Any, Tensor] = {}
        pictures: dict[int, Any] = {}
        tensors = []
        for image, task in zip(images, tasks, strict=True):
            key = id(image), task.preprocessing
            if key not in seen:
                if id(image) not in pictures:
                    pictures[id(image)] = as_picture(image)
                seen[key] = transformed(task.transform, pictures[id(image)], lambda: "an image")
            tensors.append(seen[key])
        found = zip(self.logits_of(tensors, tasks), tasks, strict=True)
        return [predictions(row[None], task.classes)[0] for row, task in found]

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Features (B, F) of preprocessed images (B, 3, H, W) by the frozen encoder."""
        tower = self.backbone.tower
        nothing = tuple(Step(False, None, None, None) for _ in range(tower.depth))
        return encode_together(tower, [nothing], [0] * len(images), images.to(tower.kernel.device))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Features (N, F) of texts by the frozen text encoder.

        Raises:
            VptError: the backbone has no text side.
        """
        pair = self.backbone.pair
        if isinstance(pair, str):
            name = self.backbone.name or "this backbone"
            raise VptError(f"{name} has no texts to search by ({pair}): take an image-text model.")
        if self._texts is None:
            self._texts = TextSide(pair)
        return self._texts.encode(Method(), pair.text.tokenize(list(texts)))

    @torch.no_grad()
    def logits_of(self, images: Sequence[Tensor], tasks: Sequence[Task]) -> list[Tensor]:
        """As `logits`, of tasks in hand, which may have left the bank; one image for two tasks is one tensor."""
        features = self._features(images, tasks)
        found: list[Tensor | None] = [None] * len(images)
        for task in dict.fromkeys(tasks):
            rows = [row for row, each in enumerate(tasks) if each is task]
            # A model takes features where it takes images.
            for row, logits in zip(rows, task.model(torch.stack([features[row] for row in rows])), strict=True):
                found[row] = logits
        return [logits for logits in found if logits is not None]

    def _features(self, images: Sequence[Tensor], tasks: Sequence[Task]) -> list[Tensor]:
        """Features (F,) of preprocessed images, each with what its task adds."""
        device = self.backbone.tower.kernel.device
        found: dict[tuple[int, int], Tensor] = {}
        keys = [(id(image), 0 if task.frozen else id(task)) for image, task in zip(images, tasks, strict=True)]
        once = dict(zip(keys, zip(images, tasks, strict=True), strict=True))
        together = {key: pair for key, pair in once.items() if pair[1].plan is not None}
        if together:
            plans = {of: task.plan for (_, of), (_, task) in together.items() if task.plan is not None}
            places = {of: index for index, of in enumerate(plans)}
            rows = [places[of] for _, of in together]
            batch = torch.stack([image for image, _ in together.values()]).to(device)
            features = encode_together(self.backbone.tower, list(plans.values()), rows, batch)
            found |= dict(zip(together, features, strict=True))
        alone = {key: pair for key, pair in once.items() if key not in together}
        for task in dict.fromkeys(task for _, task in alone.values()):
            mine = {key: image for key, (image, each) in alone.items() if each is task}
            features = task.model.kept(torch.stack(list(mine.values())).to(device))
            found |= dict(zip(mine, features, strict=True))
        return [found[key] for key in keys]

    def _chosen(self, tasks: str | Sequence[str], count: int) -> list[Task]:
        names = [tasks] * count if isinstance(tasks, str) else list(tasks)
        if len(names) != count:
            raise VptError(f"{count} images and {len(names)} tasks: name one task for each image, or one for all.")
        return [self._task(name) for name in names]

    def _task(self, name: str) -> Task:
        tasks = self._tasks
        if name not in tasks:
            raise VptError(f"the bank has no task {name!r}: {did_you_mean(name, tasks) if tasks else 'it is empty.'}")
        return tasks[name]

    def _encoders(self) -> list[nn.Module]:
        pair = self.backbone.pair
        return [self.backbone.tower] if isinstance(pair, str) else [self.backbone.tower, pair.text]


def found_tasks(folder: Path) -> dict[str, str]:
    """Runs and saved models in a folder, by the names of their folders; nothing where it is one itself, or none."""
    if not folder.is_dir() or _is_saved(folder):
        return {}
    return {place.name: str(place) for place in sorted(folder.iterdir()) if place.is_dir() and _is_saved(place)}


def _is_saved(folder: Path) -> bool:
    return any((Path(place) / saving.FACTS).is_file() for place in (folder, model_folder(folder)))
