"""Any labelled data set as images with captions: its training images, and its classes' names in templates."""

from __future__ import annotations

from typing import Any

from vpt.data.base import DataSet
from vpt.data.pairs import PairSet, class_captions
from vpt.data.parts import load_part
from vpt.errors import VptError

NAMES = ("classes",)


def load(name: str, *, data: dict[str, Any], templates: tuple[str, ...] | None = None) -> PairSet:
    """The training images of a labelled set; its val and test images stay unseen, to be classified later.

    Args:
        name: "classes".
        data: the labelled set, {name, options}, e.g. {name: caltech101, shots: 16}. A split that it lacks is
            not made, unless val_fraction or test_fraction is among the options.
        templates: sentences with one {} each; every image gets all of them as its captions. By default the
            labelled set's own.

    Raises:
        VptError: the set is not one of labelled images, an option will not do, or a template lacks {}.
    """
    labelled = load_part(data, "data.data")
    if not isinstance(labelled, DataSet):
        raise VptError(f"data.data.name={data['name']} has captions of its own: use it without data.name=classes.")
    chosen = labelled.templates if templates is None else templates
    return PairSet(f"{name} {labelled.name}", class_captions(labelled.train, labelled.classes, chosen))
