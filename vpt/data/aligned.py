"""Labels by the names of classes: what is 1 in a data set need not be 1 of a model."""

from __future__ import annotations

from collections.abc import Sequence

from vpt.data.base import NO_LABEL, Samples
from vpt.errors import VptError, did_you_mean
from vpt.report.notes import first_of, tell


def aligned(samples: Samples, classes: Sequence[str], *, by_number: bool = False, unlabelled: bool = False) -> Samples:
    """`samples` with labels that count `classes`, found by name.

    Samples that do not know the names of their classes are taken by number, and so are those of a model whose classes
    were counted and not named.

    Args:
        samples: of some of `classes`, or of all of them in any order.
        classes: names of the model's classes, in the order of the new labels.
        by_number: whether as many classes of quite other names are taken by number too, which is said.
        unlabelled: whether images may have no label, `NO_LABEL`.

    Raises:
        VptError: a name is not among `classes`, or a label has no class.
    """
    labels = class_places(samples.classes, classes, by_number=by_number)
    found = samples if labels is None else samples.relabelled(labels).named(classes)
    least = NO_LABEL if unlabelled else 0
    if len(found) and not least <= min(found.labels) <= max(found.labels) < len(classes):
        odd = max(found.labels) if max(found.labels) >= len(classes) else min(found.labels)
        raise VptError(f"the data has the label {odd}, and the model {len(classes)} classes, which are counted from 0.")
    return found


def class_places(names: Sequence[str], classes: Sequence[str], *, by_number: bool = False) -> dict[int, int] | None:
    """Where each of `names` is among `classes`; None where labels are to be taken by number.

    That is where both are the same, or one of them does not tell names; or as in `aligned`.

    Raises:
        VptError: one is not there.
    """
    if not names or list(names) == list(classes):
        return None
    places = {_words(name): place for place, name in enumerate(classes)}
    strange = [name for name in names if _words(name) not in places]
    if not strange:
        return {old: places[_words(name)] for old, name in enumerate(names)}
    if len(names) == len(classes):
        if list(classes) == [str(number) for number in range(len(classes))]:
            return None
        if by_number and len(strange) == len(names):
            both = f"{first_of(names, 3)} and the model {first_of(classes, 3)}"
            tell(f"the data calls its classes {both}: they are taken by number.")
            return {number: number for number in range(len(names))}
    hint = did_you_mean(strange[0], classes) if len(classes) <= 1000 else ""
    raise VptError(
        f"the data has the class {strange[0]!r} and the model does not know it, but {first_of(classes)}: {hint}"
    )


def _words(name: str) -> str:
    """A class's name as words: folders are often called by them with "_" between."""
    return " ".join(name.replace("_", " ").split())
