"""A frozen tower, a method that adapts it, and a head: the model that is trained, and the only block loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor, nn

from vpt import saving
from vpt.errors import VptError
from vpt.images import open_image, to_rgb
from vpt.methods.base import Method
from vpt.preprocessing import Preprocessing
from vpt.report.card import card
from vpt.towers.base import Tower

ImageLike = str | Path | Image.Image


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: the best class, its probability, and that of every class."""

    label: str
    score: float
    scores: dict[str, float] = field(repr=False)


class Prompted(nn.Module):
    """A tower with a method and a linear head; only what the method names, and the head, is trained.

    Args:
        tower: the backbone. Its parameters are frozen, but for those that the method tunes.
        method: what is learned.
        classes: names of the C classes, in the order of the logits.
        preprocessing: what the backbone was trained to see.
        recipe: how it was made, for `vpt.load`: "backbone" (name, options, revision) and "method" (name and
            options).
    """

    def __init__(
        self,
        tower: Tower,
        method: Method,
        *,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        recipe: Mapping[str, Any],
    ) -> None:
        super().__init__()
        if not classes:
            raise VptError("a model needs at least one class: give classes=[…] or num_classes=….")
        self.tower = tower
        self.method = method
        self.head = nn.Linear(tower.num_features, len(classes))
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.recipe = recipe
        tower.requires_grad_(False)
        for parameter in method.tuned(tower):
            parameter.requires_grad_(True)
        self.train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, C)."""
        return self.head(self.features(images))

    def features(self, images: Tensor, *, plain: bool = False) -> Tensor:
        """Images (B, 3, H, W) to prompted features (B, F).

        Args:
            images: preprocessed.
            plain: run the method's definition, which advances every token, in place of the fast form.
                Both give the same values and gradients, to rounding.
        """
        x = self.tower.embed(images)
        if plain:
            return self.tower.readout(self.method.strip(self._advance_plain(x, self.method.plain)))
        return self.tower.readout(self._advance(x))

    def _advance(self, x: Tensor) -> Tensor:
        tower, method = self.tower, self.method
        carried: Tensor | None = None
        for layer in range(tower.depth):
            if layer in method.enters:
                carried = method.prompts(layer, len(x))
            last = layer + 1 == tower.depth
            if carried is not None and not last and layer + 1 not in method.enters:
                # The next block reads what becomes of these prompts: they are advanced with the image.
                both = tower.advance(layer, torch.cat([x, carried.expand(len(x), -1, -1)], dim=1))
                x, carried = both.split([x.shape[1], carried.shape[1]], dim=1)
                continue
            context = [] if carried is None else [carried]
            if last and tower.read is not None:
                context.append(x[:, tower.read :])
                x = x[:, : tower.read]
            x = tower.advance(layer, x, context)
        return x

    def _advance_plain(self, x: Tensor, given: Callable[[int, Tensor], Tensor]) -> Tensor:
        for layer in range(self.tower.depth):
            x = self.tower.advance(layer, given(layer, x))
        return x

    @property
    def needs_images(self) -> bool:
        """Whether `initialise` must be called before training."""
        return self.method.needs_images

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set the prompts from what the frozen blocks are given for these training images (B, 3, H, W)."""
        tokens: list[Tensor] = []

        def keep(layer: int, x: Tensor) -> Tensor:
            tokens.append(x)
            return x

        self._advance_plain(self.tower.embed(images), keep)
        self.method.initialise(tokens)

    def train(self, mode: bool = True) -> Prompted:
        """Training mode for what is trained; frozen parts stay in evaluation mode."""
        super().train(mode)
        _freeze_modes(self.tower, mode)
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained: "prompts", "head" and "backbone", those of them that hold anything."""
        groups = {"prompts": self.method, "head": self.head, "backbone": self.tower}
        trained = {name: [p for p in part.parameters() if p.requires_grad] for name, part in groups.items()}
        return {name: parameters for name, parameters in trained.items() if parameters}

    def num_tuned(self, *, head: bool = True) -> int:
        """How many numbers are trained, with or without the head's."""
        groups = self.parameter_groups()
        return sum(p.numel() for name, group in groups.items() for p in group if head or name != "head")

    def tuned_state(self) -> dict[str, Tensor]:
        """Every trained tensor by its name, and the buffers of the modules that hold one."""
        state = {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}
        for path, module in self.named_modules():
            if any(p.requires_grad for p in module.parameters(recurse=False)):
                state |= {f"{path}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
        return state

    def frozen_state(self) -> dict[str, Tensor]:
        """Every tensor of the backbone that training leaves alone."""
        tuned = self.tuned_state()
        return {name: t for name, t in self.state_dict().items() if name not in tuned and name.startswith("tower.")}

    def load_tuned_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `tuned_state`.

        Raises:
            VptError: names or shapes are not those of this model.
        """
        own = self.tuned_state()
        if own.keys() != state.keys():
            odd = ", ".join(sorted(own.keys() ^ state.keys())[:5])
            raise VptError(f"the saved tensors are not those of {self.method.name} on this backbone: {odd} differ.")
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                shapes = f"{tuple(tensor.shape)}, the model's {tuple(own[name].shape)}"
                raise VptError(f"the saved {name} has shape {shapes}: it was saved from another model.")
        self.load_state_dict(state, strict=False)

    def save_pretrained(
        self, folder: str | Path, *, metrics: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> None:
        """Write what is tuned, the facts to rebuild the rest, and a card; never the frozen backbone.

        Args:
            folder: made if need be.
            metrics: figures to keep with the model, by name.
            overwrite: whether a folder that holds something may be written to.

        Raises:
            VptError: the folder holds something and `overwrite` is not set.
        """
        backbone = {**self.recipe["backbone"], "fingerprint": saving.fingerprint(self.frozen_state())}
        facts = {
            "backbone": backbone,
            "method": self.recipe["method"],
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "parameters": {"tuned": self.num_tuned(), "all": sum(p.numel() for p in self.parameters())},
            "metrics": dict(metrics or {}),
            "versions": saving.versions(),
        }
        saving.write(folder, self.tuned_state(), facts, card(facts, Path(folder).name), overwrite=overwrite)

    @overload
    def predict(self, images: ImageLike, *, batch_size: int = ...) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Sequence[ImageLike], *, batch_size: int = ...) -> list[Prediction]: ...

    @torch.inference_mode()
    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 32
    ) -> Prediction | list[Prediction]:
        """Class probabilities of image files or PIL images: a `Prediction`, or a list of them for a list.

        Raises:
            VptError: a file is missing or is no image.
        """
        if isinstance(images, str | Path | Image.Image):
            return self.predict([images])[0]
        transform, device = self.preprocessing.transform(), next(self.head.parameters()).device
        was_training = self.training
        self.eval()
        found: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            pictures = [
                to_rgb(i) if isinstance(i, Image.Image) else open_image(i) for i in images[start : start + batch_size]
            ]
            logits = self(torch.stack([transform(picture) for picture in pictures]).to(device))
            for row in logits.float().softmax(-1).tolist():
                scores = dict(sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1]))
                label = next(iter(scores))
                found.append(Prediction(label, scores[label], scores))
        self.train(was_training)
        return found


def _freeze_modes(module: nn.Module, mode: bool) -> None:
    """Put `module` in `mode` if a parameter in it is trained; a part without any follows its parent."""
    parameters = list(module.parameters())
    module.training = mode and (any(p.requires_grad for p in parameters) if parameters else True)
    for child in module.children():
        _freeze_modes(child, module.training)
