"""Vision Transformers of timm (Wightman, https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_model_data_config
from timm.layers import to_2tuple
from timm.models import deit
from timm.models._factory import parse_model_name
from timm.models._hub import load_model_config_from_hf, load_model_config_from_path, save_for_hf
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.options import annotated
from vpt.preprocessing import Preprocessing
from vpt.towers.backbone import Backbone
from vpt.towers.base import ImageTower, Tower
from vpt.towers.commits import commit_of
from vpt.towers.memory import check_memory
from vpt.towers.swin_timm import TimmSwin
from vpt.towers.timm_eva import EvaTower, why_not_eva
from vpt.towers.timm_naflex import NaFlexTower, why_not_naflex
from vpt.towers.timm_relative import RelativeTower, why_not_relative
from vpt.towers.timm_vit import TimmTower, why_not_vit
from vpt.towers.weights import UNREADABLE, fitted, read_weights, reason_of, without_prefix
from vpt.towers.whole import with_classifier
from vpt.towers.whole_models import whole_timm

# Modules of timm with models that are made for one size of image or for any.
SIZED = ("vision_transformer", "deit", "vision_transformer_hybrid", "eva", "beit", "vision_transformer_relpos")

# Modules of models that are opened.
OPENED = (*SIZED, "naflexvit", "vitamin", "swin_transformer", "swin_transformer_v2")

Family = tuple[type[nn.Module], type[TimmTower], Callable[[Any], str | None]]

# Classes of models, the tower that opens them, and what says why one cannot be.
FAMILIES: list[Family] = [
    (VisionTransformer, TimmTower, why_not_vit),
    (Eva, EvaTower, why_not_eva),
    (NaFlexVit, NaFlexTower, why_not_naflex),
    (Beit, RelativeTower, why_not_relative),
    (VisionTransformerRelPos, RelativeTower, why_not_relative),
]

# Beginnings of the names of what the tower leaves out.
CLASSIFIERS = ("head.", "head_dist.")


def tower_of(model: Any, projection: nn.Module | None = None, *, size: tuple[int, int] | None = None) -> ImageTower:
    """A live model of timm opened, or whole where it cannot be.

    Args:
        model: with its classifier or without.
        projection: put behind what is read of one that is opened.
        size: of images in pixels; by default what the model says.
    """
    reason, family = why_not(model), _family(model)
    tower: ImageTower
    if is_swin(model):
        tower = TimmSwin(model)
    elif reason or family is None:
        tower = whole_timm(model, str(reason), size or preprocessing_of(model).size)
    else:
        tower = family[1](model, projection)
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    return with_classifier(tower, classifier if isinstance(classifier, nn.Linear) else None)


def why_not(model: nn.Module) -> str | None:
    """Why `model` cannot be opened, or None where it can."""
    family = _family(model)
    if family is None:
        return f"{type(model).__name__} is none of timm's {', '.join(kind.__name__ for kind, _, _ in FAMILIES)}"
    return family[2](model)


def is_swin(model: Any) -> bool:
    """Whether prompts can enter the windows of a model: timm's Swin of either version, for images of one size."""
    if (
        type(model) not in (SwinTransformer, SwinTransformerV2)
        or getattr(model, "dynamic_img_size", False)
        or not model.global_pool
    ):
        return False
    blocks = [block for stage in model.layers for block in stage.blocks]
    return {type(block) for block in blocks} <= {SwinTransformerBlock, SwinTransformerV2Block}


def _family(model: nn.Module) -> Family | None:
    return next((family for family in FAMILIES if isinstance(model, family[0])), None)


def load(
    name: str,
    *,
    pretrained: bool = True,
    weights: str | None = None,
    image_size: int | None = None,
    revision: str | None = None,
    **options: Any,
) -> Backbone:
    """A tower by timm's name for the model, e.g. "vit_base_patch16_224.augreg_in21k".

    Args:
        name: as `timm.create_model` takes it, with "hf-hub:…" and "local-dir:…" too.
        pretrained: load weights, from the Hugging Face hub where `weights` does not name a file.
        weights: a local file of weights for this architecture.
        image_size: side in pixels, where it is to be another than the model's own; position embeddings
            are resampled.
        revision: a branch, tag or commit of the hub's repository that weights come from; by default the newest.
        options: further arguments of `timm.create_model`.

    Raises:
        VptError: no such model, not a Vision Transformer, or its weights cannot be had.
    """
    _known(name)
    kind = _constructed(name)
    options = options if kind is None else annotated(kind, options, "backbone")
    if ":" in name:
        _check_config(name)
    state = read_weights(Path(weights)) if weights else {}
    size = {"img_size": image_size} if image_size is not None and _has_size(name) else {}
    from_hub = pretrained and not weights
    pinned, overlay = _pinned(name, revision) if revision is not None else (name, {})
    if revision is not None and not from_hub:
        raise VptError(f"revision={revision!r} is of weights on the hub, and others are asked for: leave it out.")
    try:
        # With its classifier, which the tower leaves out: without one timm loads weights that do not fit.
        model = timm.create_model(pinned, pretrained=from_hub, **overlay, **size, **options)
    # What timm does not know of options it asserts, looks up or computes with.
    except (ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise VptError(f"timm/{name} does not take these backbone options: {reason_of(error)}.") from error
    except UNREADABLE as error:
        raise VptError(_why_no_model(pinned, error, from_hub)) from error
    if weights:
        _fill(model, state, weights, name)
    given = {"pretrained": pretrained, "image_size": image_size, "revision": revision} | options
    kept = {key: value for key, value in given.items() if value is not None and (key, value) != ("pretrained", True)}
    repository = str(model.pretrained_cfg.get("hf_hub_id") or "").partition("@")[0]
    commit = commit_of(repository, revision) if from_hub else None
    read = preprocessing_of(model)
    if not pretrained:
        # A crop belongs to the weights that it was found best for.
        read = replace(read, crop=1.0)
    if image_size is not None:
        read = replace(read, size=(image_size, image_size))
    return Backbone(tower_of(model, size=read.size), read, f"timm/{name}", kept, commit)


def _constructed(name: str) -> type[nn.Module] | None:
    """The class that a name of timm's makes, whose signature tells what its options are; None of one not known here."""
    if ":" in name:
        return VisionTransformer
    module = timm.model_entrypoint(name.split(".")[0]).__module__
    kinds = (*(kind for kind, _, _ in FAMILIES), SwinTransformer, SwinTransformerV2)
    found = next((kind for kind in kinds if kind.__module__ == module), None)
    return found or (VisionTransformer if module.rpartition(".")[2] in OPENED else None)


def _has_size(name: str) -> bool:
    """Whether a model is made for a size of image: convolutions take any."""
    if ":" in name:
        return True
    config, module = timm.get_pretrained_cfg(name), timm.model_entrypoint(name.split(".")[0]).__module__
    return config is None or bool(config.fixed_input_size) or module.rpartition(".")[2] in SIZED


def wrap(model: Any) -> Backbone | None:
    """A tower around a live model of this library; None for a model of another one."""
    if not hasattr(model, "forward_features") or not hasattr(model, "forward_head"):
        return None
    # A model that no name of timm's made, but a constructor, knows nothing of itself.
    config = getattr(model, "pretrained_cfg", None) or {}
    name = ".".join(part for part in (config.get("architecture"), config.get("tag")) if part)
    options = {key: value for key, value in getattr(model, "_model_args", {}).items() if key != "num_classes"}
    preprocessing, tower = preprocessing_of(model), tower_of(model)
    if not config:
        taken = f"size {preprocessing.size[0]}, mean {preprocessing.mean} and deviation {preprocessing.std}"
        doubt = (
            f"this {type(model).__name__} of timm does not say what images it was trained on: {taken} are taken; say "
            "otherwise by preprocessing=…."
        )
        return Backbone(tower, replace(preprocessing, crop=1.0), None, {}, doubt=doubt)
    # What cannot be written down cannot be made again by name.
    if not name or any(isinstance(value, type) or callable(value) for value in options.values()):
        return Backbone(tower, preprocessing, None, {})
    return Backbone(tower, preprocessing, f"timm/{name}", options)


def export(tower: Tower, folder: Path, preprocessing: Preprocessing) -> None:
    """Write the backbone in half precision as timm's folder of config.json and model.safetensors."""
    if not isinstance(tower, TimmTower):
        raise VptError(f"only timm's backbones can be written in its format, not a {type(tower).__name__}.")
    model = copy.deepcopy(tower.model).half()
    model.pretrained_cfg = {**model.pretrained_cfg, "tag": "vpt", "license": None}
    data_config = {
        "input_size": (3, *preprocessing.size),
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "crop_pct": preprocessing.crop,
        "crop_mode": preprocessing.crop_mode,
    }
    save_for_hf(model, str(folder), model_args=model._model_args, safe_serialization=True, data_config=data_config)


def _known(name: str) -> None:
    architecture = name.split(".")[0]
    if ":" not in name and not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(module="vision_transformer"), n=3, cutoff=0.5)
        raise VptError(f"timm has no model {name!r}: did you mean {' or '.join(near) or 'vit_base_patch16_224'}?")


def _check_config(name: str) -> None:
    """Nothing, if the config of a model in a folder or on the hub can be read, and asks for memory that there is.

    Raises:
        VptError: it does not.
    """
    try:
        source, model = parse_model_name(name)
        read = load_model_config_from_path if source == "local-dir" else load_model_config_from_hf
        config, _, arguments = read(model)
        sizes_of = {"img_size": list(config.get("input_size") or [3])[1:], **(arguments or {})}
    # Of a config that is none anything may come.
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise VptError(
            f"timm/{name} could not be had ({reason_of(error)}): check the folder, or the name and the network."
        ) from error
    check_memory(sizes_of, f"the config of timm/{name}")


def _pinned(name: str, revision: str) -> tuple[str, dict[str, Any]]:
    """A name with a revision, as timm takes it: behind the repository, whose name it may have to be told."""
    if ":" in name:
        if not name.startswith("hf-hub:"):
            raise VptError(f"timm/{name} is no repository of the hub, and has no revision {revision!r}: leave it out.")
        return f"{name}@{revision}", {}
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise VptError(f"the weights of timm/{name} do not come from the hub: leave revision={revision!r} out.")
    return name, {"pretrained_cfg_overlay": {"hf_hub_id": f"{config.hf_hub_id}@{revision}"}}


def _why_no_model(name: str, error: Exception, download: bool) -> str:
    if not download:
        return f"timm/{name} does not take these backbone options: {reason_of(error)}."
    return (
        f"the weights of timm/{name} could not be had ({reason_of(error)}): check the name's tag and the network, "
        "name a local file with weights=…, or ask for pretrained=False."
    )


def _fill(model: Any, state: dict[str, Tensor], path: str, name: str) -> None:
    """Fill a model from a file: timm's own names, those that timm converts, or Google's .npz of the first ViTs.

    Raises:
        VptError: the file does not hold weights of this model.
    """
    where = f"{path} does not hold weights for timm/{name}"
    if not state:
        if not hasattr(model, "load_pretrained"):
            raise VptError(f"{where}: it is Google's .npz of Vision Transformers.")
        try:
            model.load_pretrained(path)
        except (AssertionError, KeyError, RuntimeError, ValueError) as error:
            raise VptError(f"{where}: {reason_of(error)}.") from error
        return
    own = model.state_dict()
    state = without_prefix(state, own, path)
    try:
        state = _converted(state, model)
    # Of tensors that it does not know the conversion raises whatever comes of them.
    except (AssertionError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise VptError(f"{where}: {reason_of(error)}.") from error
    model.load_state_dict(fitted(state, own, where, spare=classifiers_of(model)), strict=False)


def classifiers_of(model: Any) -> tuple[str, ...]:
    """Beginnings of the names of what is left out of a model as an encoder."""
    if isinstance(model, VisionTransformer):
        return CLASSIFIERS
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(f"{path}." for path in ([named] if isinstance(named, str) else named))


def _converted(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Tensors by timm's names, and positions resampled to the model's, as timm does for weights of its own."""
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")
    module = sys.modules[timm.model_entrypoint(architecture).__module__]
    options: dict[str, Any] = {}
    if module is deit:
        options = {"adapt_layer_scale": True}
    elif "flexi" in architecture:
        options = {"interpolation": "bilinear", "antialias": False}
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    given = (state, model) if "model" in inspect.signature(convert).parameters else (state,)
    converted: dict[str, Tensor] = convert(*given, **options)
    return converted


def preprocessing_of(model: Any) -> Preprocessing:
    """What timm's data config of the model says, at the image size that the model was made for."""
    config = resolve_model_data_config(model)
    return Preprocessing(
        size=to_2tuple(getattr(getattr(model, "patch_embed", None), "img_size", None) or config["input_size"][1:]),
        crop=config["crop_pct"],
        crop_mode=config["crop_mode"],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def every_name() -> list[str]:
    """Names of timm's models, and of those with published weights by tag."""
    return [*timm.list_models(), *timm.list_models(pretrained=True)]


def names() -> list[str]:
    """Names of timm's models with published weights, those that are opened first."""
    opened = [name for family in OPENED for name in timm.list_models(module=family, pretrained=True)]
    return list(dict.fromkeys([*opened, *timm.list_models(pretrained=True)]))
