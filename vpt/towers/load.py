"""Towers by name ("timm/…", "vpt/…") and around live models."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vpt.errors import VptError
from vpt.options import checked
from vpt.paths import resolve
from vpt.preprocessing import Preprocessing
from vpt.towers import sizes
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower
from vpt.towers.located import identified
from vpt.towers.names import with_library
from vpt.towers.plugins import plugin, plugins
from vpt.towers.text import Tokenizer
from vpt.towers.whole_models import whole_module
from vpt.towers.wrapped import has_adapters, unwrapped
from vpt.trust import HOW, trusted

LIBRARIES = {
    "timm": "vpt.towers.timm",
    "open_clip": "vpt.towers.open_clip",
    "hf": "vpt.towers.hf",
    "torchvision": "vpt.towers.torchvision",
    "vpt": "vpt.towers.embedded",
}

# The library of a live model, by the package that its class, or a class it builds on, comes from.
PACKAGES = {"timm": "timm", "open_clip": "open_clip", "transformers": "hf", "torchvision": "torchvision"}

LARGEST_SIDE = 4096

# Options of libraries by which files may bring code that is run.
UNSAFE = frozenset({"weights_only", "trust_remote_code"})

# Packages and the first version that has all that is used of it, as pyproject.toml says too.
OLDEST = {"hf": ("transformers", "5.12"), "timm": ("timm", "1.0.28")}


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """The backbone `name`, with what it was trained to see.

    Args:
        name: library and model, e.g. "timm/vit_base_patch16_224.augreg_in21k" or "vpt/vit-nano".
        weights: a local file with them, below VPT_DATA or anywhere, in place of the hub.
        preprocessing: what is to be other than what comes with the weights: of size, mean, std, crop_pct, crop_mode and
            interpolation some, or all of it.
        options: as the library's own `load` takes them: pretrained, image_size, …

    Raises:
        VptError: no such library or model, or its weights cannot be had.
    """
    return _load(name, weights, options).prepared(preprocessing)


def as_it_is(name: str, *, weights: str | Path | None = None, **options: Any) -> Backbone:
    """The same, for a model that was saved with its preprocessing."""
    options.pop("preprocessing", None)
    return _load(name, weights, options)


def _load(name: str, weights: str | Path | None, options: Mapping[str, Any]) -> Backbone:
    library, model = _find(name)
    if trusted() and "trust_remote_code" in inspect.signature(library.load).parameters:
        options = {"trust_remote_code": True, **options}
    options = checked(library.load, options, "backbone", given=["weights"])
    _check_numbers(options)
    side = options.get("image_size")
    if side is not None and not 1 <= side <= LARGEST_SIDE:
        raise VptError(f"image_size={side} makes no sense: give a side of 1 to {LARGEST_SIDE} pixels.")
    if weights is None:
        backbone: Backbone = library.load(model, **options)
    else:
        backbone = _from_file(library, model, name, weights, options)
    if side is not None:
        sizes.check_patches(backbone.tower.patch_size, backbone.preprocessing.size, f"image_size={side}")
    return backbone


def _check_numbers(options: Mapping[str, Any]) -> None:
    """Nothing, if every number among the options can be one: sizes, counts and shares are not below 0.

    The bias of logits is; what is dropped is less than all; an MLP has a width.
    """
    for key, value in options.items():
        if isinstance(value, Mapping):
            _check_numbers(value)
        elif isinstance(value, int | float):
            low = not math.isfinite(value) or (value < 0 and key != "init_logit_bias")
            if low or ("drop" in key and value >= 1) or (key == "mlp_ratio" and value == 0):
                wanted = "more than 0" if key == "mlp_ratio" else "0 or more" + ", less than 1" * ("drop" in key)
                raise VptError(f"the backbone option {key}={value} will not do: give {wanted}.")


def _from_file(library: ModuleType, model: str, name: str, weights: str | Path, options: Mapping[str, Any]) -> Backbone:
    if "weights" not in inspect.signature(library.load).parameters:
        raise VptError(f"{name} takes no file of weights: {library.INSTEAD_OF_WEIGHTS}.")
    if not options.get("pretrained", True):
        raise VptError(f"weights={str(weights)!r} and pretrained=False contradict each other: leave one of them out.")
    path = resolve(weights)
    if not path.is_file():
        raise VptError(f"weights={str(weights)!r} is a folder: name the file in it.")
    backbone: Backbone = library.load(model, weights=str(path), **options)
    return replace(backbone, weights=identified(path))


def checked_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the backbone `name` that its library's `load` names, checked; others are the library's own.

    Raises:
        VptError: an unknown option, a wrong type, or one that lets code from elsewhere run, where configs may be from
            too.
    """
    for key in UNSAFE & options.keys():
        remedy = HOW if key == "trust_remote_code" else "no config can say that it may"
        raise VptError(f"backbone.{key} lets code run that comes with weights: {remedy}.")
    preprocessing = {"preprocessing": options["preprocessing"]} if "preprocessing" in options else {}
    own = {key: value for key, value in options.items() if key not in preprocessing}
    return checked(_find(name)[0].load, own, "backbone", also=["preprocessing"]) | preprocessing


def wrap(
    model: nn.Module,
    tokenizer: Tokenizer | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
) -> Backbone:
    """Towers around a live model, whose weights they share.

    Args:
        model: of one of `PACKAGES`, of a package with an entry point of the group `vpt.towers`, a tower itself, or any
            module that makes features (B, F) of images.
        tokenizer: of its text side, where it has one that is to be used.
        preprocessing: of a module of no library, which does not say it: at least size, mean and std.

    Raises:
        VptError: it makes no features of images, or nothing says what it was trained to see.
    """
    model = unwrapped(model)
    if isinstance(model, ImageTower):
        return _tower_itself(model)
    found = _of_library(model, tokenizer) or whole_module(model, preprocessing)
    # What PEFT has put into a model is not made again by its name.
    return replace(found, name=None, options={}) if found.name and has_adapters(model) else found


def _of_library(model: nn.Module, tokenizer: Tokenizer | None) -> Backbone | None:
    """Towers around a live model of a library; None of a model of none."""
    for name in plugins():
        found = plugin(name).wrap(model)
        if found is not None:
            return found
    for kind in type(model).__mro__:
        library = PACKAGES.get(kind.__module__.partition(".")[0])
        given = {"tokenizer": tokenizer} if tokenizer is not None and library in ("open_clip", "hf") else {}
        found = _module(library).wrap(model, **given) if library else None
        if found is not None:
            return found
    return None


def _tower_itself(tower: ImageTower) -> Backbone:
    side = tower.image_size or (224, 224)
    doubt = (
        f"a {type(tower).__name__} does not say what images it was trained on: say preprocessing=…, with size, mean "
        "and std."
    )
    return Backbone(tower, Preprocessing(side), None, {}, doubt=doubt, unusable=True)


def with_tokenizer(backbone: Backbone, tokenizer: Callable[..., Any] | None) -> Backbone:
    """A backbone whose text encoder has another tokenizer than its own.

    Raises:
        VptError: it has no text encoder.
    """
    if tokenizer is None:
        return backbone
    if isinstance(backbone.pair, str):
        raise VptError(f"tokenizer=… is for texts, and {backbone.name or 'this model'} has no text side: leave it out.")
    # transformers need not be installed for the others.
    from vpt.towers.hf_tokenizer import adapted

    backbone.pair.text.tokenizer = adapted(tokenizer)
    return backbone


def names(library: str | None = None) -> list[str]:
    """Names that `load` takes, of one library or of all."""
    libraries = [library] if library else [*LIBRARIES, *plugins()]
    return [f"{each}/{name}" for each in libraries for name in getattr(_module(each), "names", list)()]


def _find(name: str) -> tuple[Any, str]:
    library, _, model = with_library(name, [*LIBRARIES, *plugins()], _models).partition("/")
    if not hasattr(_module(library), "load"):
        raise VptError(f"{library} has no models by name: make one and give it to vpt.attach.")
    return _module(library), model


def _models(library: str) -> list[str]:
    """Models of a library by name, with those that have no published weights; none of one that is not installed."""
    try:
        module = _module(library)
    except (ImportError, VptError):
        return []
    known: Callable[[], list[str]] = getattr(module, "every_name", getattr(module, "names", list))
    return list(known())


def _module(library: str) -> Any:
    if library in OLDEST:
        package, oldest = OLDEST[library]
        found = version(package)
        if _numbers(found) < _numbers(oldest):
            raise VptError(f"{package} {found} is too old for vpt: install {package}>={oldest}.")
    return import_module(LIBRARIES[library]) if library in LIBRARIES else plugin(library)


def _numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, or as many as there are."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:3])
