"""Which images a run has, kept by name, so that its splits stay what they were where a folder has grown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vpt.data.base import DataSet, Samples
from vpt.data.joined import joined_pairs, joined_samples
from vpt.data.pairs import Pairs, PairSet
from vpt.errors import VptError
from vpt.report.notes import first_of, tell

Changed = Literal["stop", "skip"]


class Members(BaseModel):
    """The images of a run by split, as JSON that a run directory can keep.

    Attributes:
        format: of these fields.
        classes: names of the classes, in the order of the labels; empty of captions.
        splits: names of each split's images in order, below the folder that all images of the set have in common.
        digests: of each split, as `facts` has them.
        pool: how many images the set had in all, with those that were not drawn.
        unlabelled: names of the images without labels, below the folder that all of these have in common.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    classes: list[str]
    splits: dict[Literal["train", "val", "test"], list[str]]
    digests: dict[str, str]
    pool: int = Field(ge=1)
    unlabelled: list[str] = Field(default_factory=list)


def members(data: DataSet | PairSet) -> Members:
    """The images of `data` by split, to be kept with a run."""
    splits: Mapping[str, Samples | Pairs] = data.splits()
    found = {split: [part.name(i) for i in range(len(part))] for split, part in splits.items()}
    every = {name for of_split in found.values() for name in of_split}
    below = _below(every)
    others = data.unlabelled if isinstance(data, DataSet) else None
    unlabelled = [] if others is None else [others.name(i) for i in range(len(others))]
    below_others = _below(set(unlabelled), own=1)
    return Members(
        classes=[] if isinstance(data, PairSet) else list(data.classes),
        splits={split: [below[name] for name in of_split] for split, of_split in found.items()},  # type: ignore[misc]
        digests=data.facts()["digests"],
        pool=max(data.pool, len(every)),
        unlabelled=[below_others[name] for name in unlabelled],
    )


def restored(data: DataSet | PairSet, kept: Members, new: Changed) -> DataSet | PairSet:
    """`data`, read whole, with the splits of a run; of images without labels it has none.

    Args:
        data: the set as it is now, in whatever splits.
        kept: the images of the run.
        new: stop at images that the run did not have, or leave them out and say how many there are.

    Raises:
        VptError: images of the run are missing or have other labels or captions, or `new` is "stop" and some are new.
    """
    whole: Any = joined_pairs(data) if isinstance(data, PairSet) else joined_samples(data)
    names = [whole.name(index) for index in range(len(whole))]
    places = places_of(names, [name for of_split in kept.splits.values() for name in of_split], data.name)
    _check_new(data, names, set(places.values()), kept, new)
    if isinstance(data, DataSet) and list(data.classes) != kept.classes:
        data, whole = _of_classes(data, whole, kept.classes)
    parts: dict[str, Any] = {
        split: whole.subset([places[name] for name in kept.splits.get(split, [])]) for split in ("train", "val", "test")
    }
    parts |= {split: None for split in ("val", "test") if not len(parts[split])}
    if isinstance(data, DataSet):
        of_group = {group: {data.test.name(i) for i in of} for group, of in data.groups.items() if data.test}
        tested = [parts["test"].name(i) for i in range(len(parts["test"]))] if parts["test"] else []
        parts["groups"] = {g: [i for i, name in enumerate(tested) if name in of] for g, of in of_group.items()}
    found = replace(data, **parts)
    digests = found.facts()["digests"]
    differs = [split for split in kept.splits if digests.get(split) != kept.digests[split]]
    if differs:
        what = "captions" if isinstance(found, PairSet) else "labels"
        raise VptError(f"{what} of {data.name}'s {differs[0]} images are no longer those of the run: train anew.")
    return found


def learned_in(data: DataSet | PairSet, kept: Members) -> list[str]:
    """Names of test images of `data`, the same set dealt anew, that a run has learned from or was selected by."""
    if data.test is None:
        return []
    wanted = {*kept.splits.get("train", []), *kept.splits.get("val", [])} - {*kept.splits.get("test", [])}
    return sorted(_places([data.test.name(index) for index in range(len(data.test))], wanted, 2))


def _check_new(data: DataSet | PairSet, names: Sequence[str], known: set[int], kept: Members, new: Changed) -> None:
    """Stop at images that the run did not have, all of `names` but those `known`, or tell them."""
    others = [name for place, name in enumerate(names) if place not in known]
    drawn = len({name for of_split in kept.splits.values() for name in of_split}) < kept.pool
    # Of a set that shots were drawn from, what was not drawn has no names here.
    count = len(names) - kept.pool if drawn else len(others)
    told_new(data.name, count, [] if drawn else others, new)


def told_new(where: str, count: int, names: Sequence[object], new: Changed) -> None:
    """Stop at `count` images that a run did not have, or tell them; `names` are empty where they are not known."""
    if count <= 0:
        return
    told = f"{where} has {count} images that the run did not have" + (f": {first_of(names)}" if names else "")
    if new == "stop":
        raise VptError(f"{told}; to leave them out say data.new=skip, to take them in train anew.")
    tell(f"{told}; they are left out.")


def _of_classes(data: DataSet, whole: Samples, classes: Sequence[str]) -> tuple[DataSet, Samples]:
    """The set and its images with the labels of the run; images of other classes have label -1, and are not used."""
    lost = [name for name in classes if name not in data.classes]
    if lost:
        raise VptError(f"{data.name} no longer has the class {lost[0]!r} of the run: put it back, or train anew.")
    labels = {old: list(classes).index(name) if name in classes else -1 for old, name in enumerate(data.classes)}
    whole = whole.relabelled(labels).named(classes)
    return replace(data, classes=tuple(classes)), whole


def _below(names: set[str], own: int = 2) -> dict[str, str]:
    """Each name as the path below the folder that all have in common, or as it is where it is no path."""
    root = _common(names, own)
    return {name: name.removeprefix(root) for name in names}


def _common(names: set[str], own: int) -> str:
    """The folder that all names have in common, but for the last parts of each, its `own`."""
    folders = {os.path.dirname(name) for name in names if os.sep in name}
    if own > 1:
        # Which tell the class too.
        folders = {os.path.dirname(folder) for folder in folders}
    absolute = {os.path.isabs(folder) for folder in folders}
    return os.path.join(os.path.commonpath(folders), "") if len(absolute) == 1 and "" not in folders else ""


def places_of(names: Sequence[str], wanted: Sequence[str], where: str, *, own: int = 2) -> dict[str, int]:
    """Where each wanted name is: below the folder that `names` have in common, or at the end of a longer path.

    Args:
        names: of the images that there are.
        wanted: of the run's.
        where: what has lost them, for the error.
        own: how many last parts of a name are the image's own: its class and its file, or of those without labels
            its file.

    Raises:
        VptError: one is not there.
    """
    places = _places(names, set(wanted), own)
    missing = [name for name in dict.fromkeys(wanted) if name not in places]
    if missing:
        raise VptError(
            f"{len(missing)} images of the run are no longer in {where}: {first_of(missing)}; put them back, or train "
            "anew."
        )
    return places


def _places(names: Sequence[str], wanted: set[str], own: int) -> dict[str, int]:
    below = _below(set(names), own)
    places = {below[name]: place for place, name in reversed(list(enumerate(names))) if below[name] in wanted}
    for place, name in enumerate(names):
        if below[name] in places:
            continue
        parts = Path(name).parts
        ends = (os.sep.join(parts[start:]) for start in range(1, len(parts)))
        found = next((end for end in ends if end in wanted and end not in places), None)
        if found is not None:
            places[found] = place
    return places
