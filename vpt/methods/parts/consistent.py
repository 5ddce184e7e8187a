"""A term that holds features near those of other words and another view in the frozen model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.objective import Objective
from vpt.methods.parts.outputs import Outputs
from vpt.precision import full_precision


class Consistent(Objective):
    """weight · (1 - mean over classes of cos(t, t*) + 1 - mean over images of cos(v, v*)).

    t* are the frozen features of one sentence about each class, of the same number for all of them, drawn at each step;
    v* those of a second augmented view of each image.

    Args:
        weight: 0 or more.
        templates: sentences with {} for the class name, where there is no file.
        sentences: a JSON file of {class name: [sentence, …]}, as many for each class; it is read when training begins.

    Raises:
        VptError: a weight below 0.
    """

    two_views = True
    frozen_mean = "each"

    def __init__(self, weight: float, templates: Sequence[str], sentences: str | None = None) -> None:
        super().__init__()
        if weight < 0:
            raise VptError(f"weight={weight} would drive features from the frozen model: give 0 or more.")
        self.weight = weight
        self.frozen_templates = tuple(templates)
        self.sentences = sentences
        self._read: tuple[tuple[str, ...], list[list[str]]] | None = None

    @property
    def wants_frozen(self) -> bool:
        """Where the weight is above 0."""
        return self.weight > 0

    def frozen_texts(self, classes: Sequence[str]) -> list[list[str]] | None:
        """The file's sentences of each class."""
        if self.sentences is None:
            return None
        if self._read is None or self._read[0] != tuple(classes):
            self._read = tuple(classes), read_sentences(Path(self.sentences), classes)
        return self._read[1]

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The weighted distances."""
        assert outputs.frozen_text is not None
        assert outputs.frozen_image is not None
        count = outputs.frozen_text.shape[1]
        # On the device itself, so that a captured step draws anew.
        drawn = torch.randint(count, (1,), device=outputs.frozen_text.device)
        sentence = outputs.frozen_text.index_select(1, drawn)[:, 0]
        text = full_precision((outputs.text * sentence).sum(-1)).mean()
        image = full_precision((outputs.image * outputs.frozen_image).sum(-1)).mean()
        return self.weight * (2 - text - image)


def read_sentences(path: Path, classes: Sequence[str]) -> list[list[str]]:
    """The sentences of each class, as many for each.

    Raises:
        VptError: the file cannot be read, or lacks a class, or has different numbers of sentences.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VptError(f"method.sentences={path} cannot be read as JSON: {error}.") from error
    if not isinstance(held, dict):
        raise VptError(f"method.sentences={path} holds no {{class name: [sentence, …]}}.")
    by_words = {_words(name): texts for name, texts in held.items()}
    missing = [name for name in classes if _words(name) not in by_words]
    if missing:
        raise VptError(f"method.sentences={path} has nothing of {len(missing)} classes, such as {missing[0]!r}.")
    found = [by_words[_words(name)] for name in classes]
    for name, texts in zip(classes, found, strict=True):
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise VptError(f"method.sentences={path}: what it has of {name!r} is no list of sentences.")
        if len(texts) != len(found[0]):
            raise VptError(
                f"method.sentences={path} has {len(texts)} sentences of {name!r} and {len(found[0])} of "
                f"{classes[0]!r}: each class needs as many, since one number is drawn for all."
            )
    return found


def _words(name: str) -> str:
    return name.replace("_", " ").strip().lower()
