"""Labels by the names of classes: what is 1 in a data set need not be 1 of a model."""

from __future__ import annotations

from collections.abc import Sequence

from vpt.data.base import Samples
from vpt.errors import VptError, did_you_mean
from vpt.report.notes import first_of


def aligned(samples: Samples, classes: Sequence[str], whose: str = "the model") -> Samples:
    """`samples` with labels that count `classes`, found by name.

    Samples that do not know the names of their classes are taken by number, and so are those of a model whose classes
    were counted and not named.

    Args:
        samples: of some of `classes`, or of all of them in any order.
        classes: names, in the order of the new labels.
        whose: they are, for an error.

    Raises:
        VptError: a name is not among `classes`, or a label has no class.
    """
    labels = class_places(samples.classes, classes, whose)
    found = samples if labels is None else samples.relabelled(labels).named(classes)
    if len(found) and not 0 <= min(found.labels) <= max(found.labels) < len(classes):
        odd = max(found.labels) if max(found.labels) >= len(classes) else min(found.labels)
        raise VptError(f"the data has the label {odd}, and {whose} {len(classes)} classes, which are counted from 0.")
    return found


def class_places(names: Sequence[str], classes: Sequence[str], whose: str = "the model") -> dict[int, int] | None:
    """Where each of `names` is among `classes`; None where both are the same, or one of them does not tell names.

    Raises:
        VptError: one is not there.
    """
    if not names or list(names) == list(classes):
        return None
    places = {_words(name): place for place, name in enumerate(classes)}
    strange = [name for name in names if _words(name) not in places]
    if not strange:
        return {old: places[_words(name)] for old, name in enumerate(names)}
    if list(classes) == [str(number) for number in range(len(classes))] and len(names) == len(classes):
        return None
    hint = did_you_mean(strange[0], classes) if len(classes) <= 1000 else ""
    raise VptError(
        f"the data has the class {strange[0]!r} and {whose} does not know it, but {first_of(classes)}: {hint}"
    )


def _words(name: str) -> str:
    """A class's name as words: folders are often called by them with "_" between."""
    return " ".join(name.replace("_", " ").split())
