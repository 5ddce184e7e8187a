"""Data sets by name. A source is a module here with `NAMES` and `load(name, *, options)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

from vpt.data.base import Arrays, DataSet
from vpt.data.cache import Cached
from vpt.data.check import Kind, check_files, tell_alike, tell_few, tell_lacking
from vpt.data.identical import tell_identical
from vpt.data.joined import everything
from vpt.data.members import Changed, Members, restored
from vpt.data.pairs import PairSet
from vpt.data.split import dealt, few_shot, halves, stratified
from vpt.data.unlabelled import restored_unlabelled, with_unlabelled
from vpt.errors import VptError, did_you_mean
from vpt.images import limit_pixels
from vpt.options import checked, options_of, typed

# Options of `load` that say how splits are made of what a source has.
DEALING = ("shots", "shots_first", "seed", "split_seed", "val_fraction", "test_fraction", "classes_subset")
# Those that say how images are read, and what is done with new ones: they are the same images.
READING = ("check", "broken", "cache", "new", "max_pixels")


@typed
def load(
    name: str,
    *,
    shots: int | None = None,
    shots_first: Literal["train", "val"] = "train",
    seed: int = 0,
    split_seed: int = 0,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    broken: Literal["stop", "skip"] = "stop",
    check: bool = True,
    classes_subset: Literal["all", "base", "new"] = "all",
    cache: Literal["none", "memory", "disk"] = "none",
    new: Changed = "stop",
    max_pixels: int | None = None,
    unlabelled: str | Path | None = None,
    **options: Any,
) -> DataSet | PairSet:
    """The data set `name`, of labelled images or of images with captions, checked and its missing splits made.

    A test split that the data set has is never touched. What is missing is dealt from the training images,
    stratified by class where there are classes: val, and test if there is neither or `test_fraction` asks for
    it. The same image, where captions come with one more than once, goes to one split.

    Args:
        name: as `vpt list datasets` shows, e.g. "folder", "digits", "torchvision/Flowers102".
        shots: keep so many training images a class, and min(shots, 4) validation images, as CoOp samples them; of
            a set for testing only nothing is left out. Of labelled images only.
        shots_first: the images that are drawn first: "train" as in CoOp's code, or "val" as in CLIP-LoRA's. One random
            generator draws both, so that other images come of it.
        seed: of the shots, and of a val split that is dealt beside a test split that the data set has.
        split_seed: of a test split that is dealt, and of the val split that is dealt with it: one number for all runs
            that are compared, so that whatever seed they have none learns from, or is chosen by, another's test images.
        val_fraction: share of the images for a val split to be made, in [0, 1); 0.15 by default.
        test_fraction: likewise for a test split; 0 makes none.
        broken: stop at images that cannot be decoded, or skip and count them.
        check: decode every image file before anything else; without it a broken one stops the run when met.
        classes_subset: "base" keeps the first half of the classes (and the odd one) in every split, "new" the rest,
            numbered from 0 again. Shots are drawn before, among all classes: base and new share them with "all"
            (CoOp's code for Zhou et al., "Conditional Prompt Learning", CVPR 2022, section 4.1).
        cache: keep decoded and resized images in "memory" (of training and validation), or on "disk".
        new: when a run is gone on with or measured, stop at images that it did not have, or skip and count them; see
            `load_again`. Not read here, where every image counts.
        max_pixels: decode images of up to so many pixels, from now on; see `vpt.images.limit_pixels`.
        unlabelled: a folder of images without labels, for methods that look at none (promptkd), which learn from them
            beside the training images; what is in a split is left out, and so are test images of other classes.
        options: of the data set's own source, e.g. path for "folder".

    Raises:
        VptError: no such data set or option, something missing, broken files, or a split with no images.
    """
    _check_shares(val_fraction=val_fraction, test_fraction=test_fraction)
    _check_counts(shots=shots, seed=seed, split_seed=split_seed)
    _check_choices(broken=broken, classes_subset=classes_subset, cache=cache, new=new, shots_first=shots_first)
    if not isinstance(check, bool):
        raise VptError(f"data.check={check!r}: give true or false.")
    if max_pixels is not None:
        limit_pixels(max_pixels)
    if shots is None and shots_first != "train":
        raise VptError(f"data.shots_first={shots_first} is the order in which data.shots is drawn: say how many, too.")
    data = _read(name, options, broken, check)
    if isinstance(data, PairSet):
        if shots is not None:
            raise VptError(f"data.shots={shots} counts images of a class, and {data.name} has captions: leave it out.")
        if cache != "none" or classes_subset != "all":
            raise VptError(f"data.cache and data.classes_subset are for labelled images, and {data.name} has captions.")
        if unlabelled is not None:
            raise VptError(f"data.unlabelled goes with labelled images, and {data.name} has captions: leave it out.")
        data = _with_splits(data, val_fraction, test_fraction, seed, split_seed)
        if check:
            tell_identical(data)
        return data
    if len(data.classes) < 2:
        raise VptError(f"{data.name} has images of {len(data.classes)} classes: there must be 2 or more.")
    pool = len(everything(data)) if shots is not None or classes_subset != "all" else 0
    data = whole = _with_splits(data, val_fraction, test_fraction, seed, split_seed)
    if shots is not None and len(data.train):
        tell_few(data, shots)
        train, val = few_shot(data.train.labels, data.val.labels if data.val else None, shots, seed, shots_first)
        data = data.keep({"train": train} | ({"val": val} if val else {}))
    if classes_subset != "all":
        data = data.with_classes(halves(len(data.classes))[classes_subset])
    tell_lacking(data)
    tell_alike(data.classes, data.name)
    if unlabelled is not None:
        data = with_unlabelled(data, unlabelled, whole, broken=broken, check=check)
    if check:
        tell_identical(data)
    return _cached(replace(data, pool=pool), cache)


def _check_counts(**counts: int | None) -> None:
    for key, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise VptError(f"data.{key}={count!r} is no whole number: give one.")
        if key == "shots" and count is not None and count < 1:
            raise VptError(f"data.shots={count} leaves nothing to train on: give 1 or more.")
        if count is not None and count < 0:
            told = f"data.{key}={count} is below 0, where Python's generator takes it for {-count}"
            raise VptError(f"{told}: give 0 or more.")


def _check_shares(**shares: float | None) -> None:
    for key, fraction in shares.items():
        number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
        if fraction is not None and not (number and 0 <= fraction < 1):
            raise VptError(f"data.{key}={fraction!r} is no share: give 0 or more, and less than 1.")


def _check_choices(**given: str) -> None:
    for key, value in given.items():
        known = get_args(get_type_hints(load)[key])
        if value not in known:
            raise VptError(f"data.{key}={value!r}: give {' or '.join(known)}.")


def load_again(
    name: str,
    kept: Members,
    *,
    new: Changed = "stop",
    broken: Literal["stop", "skip"] = "stop",
    check: bool = True,
    cache: Literal["none", "memory", "disk"] = "none",
    max_pixels: int | None = None,
    unlabelled: str | Path | None = None,
    **options: Any,
) -> DataSet | PairSet:
    """The data set of a run with the run's own splits, whatever has been added to it since.

    Args:
        name: as in `load`, and so are the other arguments; those that make or draw splits are not read.
        kept: what `members` said of the run's data.
        new: stop at images that the run did not have, or leave them out and say how many there are.
        broken: stop at images that cannot be decoded, or skip and count them.
        check: decode every image file before anything else.
        cache: keep decoded and resized images.
        max_pixels: decode images of up to so many pixels, from now on.
        unlabelled: the folder of images without labels; without it there are none, which is for measuring.
        options: of the data set's own source.

    Raises:
        VptError: images of the run are missing or have other labels or captions, or `new` is "stop" and some are new.
    """
    if max_pixels is not None:
        limit_pixels(max_pixels)
    own = {key: value for key, value in options.items() if key not in DEALING}
    whole = _read(name, own, broken, check)
    data = restored(whole, kept, new)
    if isinstance(data, PairSet) or isinstance(whole, PairSet):
        return data
    if unlabelled is not None:
        data = restored_unlabelled(data, unlabelled, whole, kept, new, broken=broken, check=check)
    return _cached(data, cache)


def load_whole(
    name: str,
    *,
    broken: Literal["stop", "skip"] = "stop",
    check: bool = True,
    max_pixels: int | None = None,
    **options: Any,
) -> DataSet | PairSet:
    """The data set as its source has it, nothing dealt or drawn, to measure a model on `everything` of it.

    It may have images of one class alone.

    Args:
        name: as in `load`, and so are the other arguments; those that make, draw or keep splits are not read.
        broken: stop at images that cannot be decoded, or skip and count them.
        check: decode every image file before anything else.
        max_pixels: decode images of up to so many pixels, from now on.
        options: of the data set's own source.
    """
    if max_pixels is not None:
        limit_pixels(max_pixels)
    own = {key: value for key, value in options.items() if key not in (*DEALING, "cache", "new", "unlabelled")}
    return _read(name, own, broken, check)


def _read(name: str, options: Mapping[str, Any], broken: Literal["stop", "skip"], check: bool) -> DataSet | PairSet:
    """What the source of `name` gives, checked."""
    source = _source(name)
    data: DataSet | PairSet = source(name, **checked(source, options, "data"))
    if check:
        data = check_files(data, broken)  # type: ignore[type-var]
    return data


def _cached(data: DataSet, cache: Literal["none", "memory", "disk"]) -> DataSet:
    if cache == "none":
        return data
    # Images in memory are no faster there a second time, and the test split is seen once.
    splits = {name: samples for name, samples in data.parts().items() if not isinstance(samples, Arrays)}
    kept: dict[str, Any] = {
        name: Cached(samples, cache) for name, samples in splits.items() if cache == "disk" or name != "test"
    }
    return replace(data, **kept)


def _with_splits(
    data: Kind, val_fraction: float | None, test_fraction: float | None, seed: int, split_seed: int
) -> Kind:
    """`data` with the splits made that are missing and wanted, by `split_seed` where test is among them."""
    if not len(data.train):
        if val_fraction or test_fraction:
            raise VptError(f"{data.name} is for testing only: leave data.val_fraction and data.test_fraction out.")
        return data
    val = 0.0 if data.val is not None else 0.15 if val_fraction is None else val_fraction
    test = test_fraction or 0.0
    if data.val is None and data.test is None and test_fraction is None:
        test = 0.15
    for key, given, there in (("val", val_fraction, data.val), ("test", test_fraction, data.test)):
        if given and there is not None:
            raise VptError(f"data.{key}_fraction={given}, but {data.name} has a {key} split of its own: leave it out.")
    if val + test >= 1:
        raise VptError(f"val_fraction {val} and test_fraction {test} leave nothing to train on: give less.")
    if not len(data.train) or (not val and not test):
        return data
    seed = split_seed if test else seed
    if isinstance(data, PairSet):
        parts = dealt([data.train.name(index) for index in range(len(data.train))], [val, test], seed)
    else:
        parts = stratified(data.train.labels, [val, test], seed)
    train, new_val, new_test = (data.train.subset(part) for part in parts)
    return replace(
        data,
        train=train,
        val=new_val if len(new_val) else data.val,
        test=new_test if len(new_test) else data.test,
    )


def checked_options(name: str, options: Mapping[str, Any], where: str = "data") -> dict[str, Any]:
    """Options of `load` and of the source of `name`, checked without reading any data.

    Raises:
        VptError: no such data set or option, or a value of the wrong type.
    """
    source = _source(name)
    own = {key: value for key, value in options.items() if key not in options_of(load)}
    shared = {key: value for key, value in options.items() if key in options_of(load)}
    return checked(load, shared, where) | checked(source, own, where, also=options_of(load))


def source_options(name: str) -> dict[str, Any]:
    """The options of the source of `name` itself, each with its type and default."""
    return options_of(_source(name.replace("*", "")))


def names() -> list[str]:
    """Every name that `load` takes; "x/*" stands for any set of the library x."""
    return sorted(name for module in _modules() for name in module.NAMES)


def _source(name: str) -> Callable[..., DataSet | PairSet]:
    for module in _modules():
        for known in module.NAMES:
            if name == known or (known.endswith("/*") and name.startswith(known[:-1])):
                source: Callable[..., DataSet | PairSet] = module.load
                return source
    raise VptError(f"there is no data set {name!r}: {did_you_mean(name, names(), see='vpt list datasets')}")


def _modules() -> list[ModuleType]:
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return [module for module in modules if hasattr(module, "NAMES")]
