"""The names that a model chooses among, where they are the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.normalised import normalised
from vpt.text import checked_classes, checked_templates

NOTHING = Method()


class ClassNames:
    """What a `Prompted` does with the names of its classes."""

    def class_features(self, image: Tensor | None = None, *, plain: bool = False, lengths: bool = False) -> Tensor:
        """L2-normalised text features of the classes, (C, F); see `TextSide.class_features`.

        With `lengths` they are as the classifier takes them, which may be as long as the encoder makes them.
        """
        model: Any = self
        method, side = model.method, model._text()
        templates = model.templates if method.template is None else (method.template,)
        raw = method.classifier.lengths
        with torch.no_grad():
            looks = method.text_prompts.looks_at_classes
            seen = side.class_features(NOTHING, model.classes, model.templates) if looks else None
        options: dict[str, Any] = {"mean": "raw" if raw else "normalised", "lengths": raw, "seen": seen}
        found: Tensor = side.class_features(method, model.classes, templates, image, plain=plain, **options)
        return normalised(found) if raw and not lengths else found

    def set_classes(self, classes: Sequence[str], templates: Sequence[str] | None = None) -> None:
        """Choose among other names from now on, where class names are the classifier.

        Where something was learned for each class, those of them that were trained are judged by it, and others by
        their texts.

        Args:
            classes: C names.
            templates: sentences for them, each with one {}; those in use are kept by default.

        Raises:
            VptError: the model has a linear head, what was learned belongs to its classes, two names are the same, or
                a template is no sentence with one {}.
        """
        model: Any = self
        if model.head is not None:
            raise VptError("a linear head knows its own classes alone: make the model with head='text' to change them.")
        model.method.check_new_classes()
        names, sentences = checked_classes(classes), checked_templates(templates) if templates else model.templates
        learned = {name: place for place, name in enumerate(model.learned_classes)}
        same = names == model.learned_classes
        model.method.set_classes(None if same else [learned.get(name, -1) for name in names])
        model.classes, model.templates = names, sentences
