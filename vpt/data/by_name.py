"""Labels by name in datasets that are put together of others, each of which may count classes of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from vpt.data.aligned import class_places
from vpt.errors import VptError
from vpt.report.notes import first_of

Places = dict[int, int]


class ByName:
    """Where the labels of a dataset are among a model's classes, by the names that it, or each part of it, tells.

    Args:
        source: a dataset; of torch's `Subset` and `ConcatDataset` the parts are looked at.
        classes: names of the model's classes.
        by_number: as in `vpt.data.aligned.aligned`.

    Raises:
        VptError: the model does not know a class; or what is one number in several parts may be one class or several.
    """

    def __init__(self, source: Any, classes: Sequence[str], *, by_number: bool = False) -> None:
        self.source = source
        several = dict.fromkeys(names_of(part) for part in _parts(source))
        self.told = told = {names: class_places(names, classes, by_number=by_number) for names in several}
        moved = [names for names, places in told.items() if places and any(a != b for a, b in places.items())]
        if moved and () in told:
            raise VptError(
                f"a part of the data calls its classes {first_of(moved[0], 3)}, which is another order than the "
                "model's, and another part does not tell names: give it `classes` too."
            )
        counted = [names for names, places in told.items() if names and places is None and names != tuple(classes)]
        if counted and len(set(told) - {()}) > 1:
            other = next(names for names in told if names and names != counted[0])
            raise VptError(
                f"parts of the data call their classes {first_of(counted[0], 3)} and {first_of(other, 3)}, and those "
                "of the model have no names to find them by: give the model names."
            )

    def of(self, index: int) -> Places | None:
        """Where labels of an item's part are; None where they are taken by number."""
        if len(self.told) == 1:
            return next(iter(self.told.values()))
        return self.told[names_of(_part_of(self.source, index))]

    def of_all(self) -> Places | None:
        """The same for items of which it is not known which part they are of.

        Raises:
            VptError: one label is of several classes, by the names of several parts.
        """
        # Labels by number need no places, and go with those that are moved nowhere.
        every = [places for places in self.told.values() if places is not None]
        whole: Places = {}
        for places in every:
            for label, place in places.items():
                if whole.setdefault(label, place) != place or (len(every) < len(self.told) and label != place):
                    raise VptError(
                        f"the parts of the loader's dataset count their classes differently, {label} is not one class "
                        "in all of them, and a batch does not say which part an image is of: give the dataset itself."
                    )
        return whole if len(every) == len(self.told) else None


def names_of(source: Any) -> tuple[str, ...]:
    """The names of classes that a dataset itself tells, as torchvision's do in `classes`; empty where it tells none."""
    names = getattr(source, "classes", None)
    told = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if told and names is not None else ()


def _parts(source: Any) -> list[Any]:
    """The datasets that items come from."""
    if isinstance(source, ConcatDataset) and not names_of(source):
        return [part for of_source in source.datasets for part in _parts(of_source)]
    if not isinstance(source, Subset) or names_of(source):
        return [source]
    inner = _parts(source.dataset)
    if len(inner) == 1:
        return inner
    used = {id(_part_of(source, index)) for index in range(len(source))}
    return [part for part in inner if id(part) in used]


def _part_of(source: Any, index: int) -> Any:
    """The dataset that an item comes from."""
    while isinstance(source, Subset | ConcatDataset) and not names_of(source):
        if isinstance(source, Subset):
            source, index = source.dataset, int(source.indices[index])
            continue
        index += len(source) if index < 0 else 0
        part = bisect_right(source.cumulative_sizes, index)
        source, index = source.datasets[part], index - (source.cumulative_sizes[part - 1] if part else 0)
    return source
