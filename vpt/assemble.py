"""Models by name, around live backbones, and from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vpt import fits, saving
from vpt.devices import chosen_device
from vpt.errors import VptError
from vpt.facts import Facts
from vpt.methods import called, find
from vpt.methods.base import Method
from vpt.model import Prompted
from vpt.modes import evaluating
from vpt.options import checked
from vpt.paths import model_folder
from vpt.preprocessing import Preprocessing
from vpt.text import DEFAULT_TEMPLATES, checked_classes, checked_templates
from vpt.towers import load as towers
from vpt.towers import saved
from vpt.towers.backbone import Backbone
from vpt.towers.traits import first_difference, traits
from vpt.trust import from_elsewhere, trusting

PRECISIONS = ("fp32", "bf16")
MOST_CLASSES = 1_000_000

# A name, a class, or several of either, some with options.
MethodLike = str | type[Method] | Mapping[str, Any] | Sequence[str | type[Method] | Mapping[str, Any]]


def create(
    name: str,
    method: MethodLike = "vpt-deep",
    *,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    head: str | nn.Module | None = None,
    head_init: Literal["vpt"] | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    learn_scale: bool = False,
    pretrained: bool = True,
    weights: str | Path | None = None,
    image_size: int | None = None,
    dtype: Literal["fp32", "bf16"] = "fp32",
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    tokenizer: Callable[..., Any] | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Prompted:
    """A frozen backbone by name, with a method and a classifier.

    Args:
        name: "library/model", e.g. "timm/vit_base_patch16_224.augreg_in21k" or "vpt/vit-nano".
        method: as `vpt list methods` shows, e.g. "vpt-deep"; a class of one's own, or "package.module:Class"; or a list
            of several that take different places, e.g. ["vpt-deep", "lora"].
        classes: names of the classes; or
        num_classes: how many there are. With head="text" there may be none, to compare images with texts.
        head: "linear", or "text" for the features of the class names, by default what the method is used with; or a
            module of one's own, features (B, F) to logits (B, C), which is trained too.
        head_init: how a linear head begins: "vpt" as in VPT's code (Jia et al., ECCV 2022), weights by Kaiming's normal
            initialisation for the fan-out and biases of -log 99, a probability of 0.01 for each class; by default
            weights of N(0, 0.02) and biases of 0.
        templates: sentences for class names, each with one {}, whose features are averaged.
        learn_scale: with head="text", train the scale (and bias) of the logits too.
        pretrained: load the backbone's weights.
        weights: a local file with them, in place of the hub.
        image_size: side of the images in pixels, where not the backbone's own.
        dtype: "bf16" holds the frozen encoders, and what is kept of them for the backward pass, in half the memory;
            what is learned stays in float32.
        preprocessing: what the backbone was trained to see, where that does not come with its weights or is another:
            of size, mean, std, crop, crop_mode and interpolation some, or a `Preprocessing`.
        tokenizer: of an image-text model's text side, as in `attach`; by default its own.
        backbone_options: further options of the library's own constructor.
        options: of the method, e.g. num_tokens=10.

    Raises:
        VptError: a name or option that does not exist, or weights that cannot be had.
    """
    _check_precision(dtype)
    _check_types(name=(name, str), weights=(weights, str | Path | None))
    _check_types(backbone_options=(backbone_options, Mapping | None), tokenizer=(tokenizer, Callable | None))
    given = {"weights": weights, "image_size": image_size, "preprocessing": preprocessing, **(backbone_options or {})}
    given = {key: value for key, value in given.items() if value is not None}
    backbone = towers.with_tokenizer(towers.load(name, pretrained=pretrained, **given), tokenizer)
    names = _class_names(classes, num_classes)
    model = _assemble(
        backbone, method, names, options, head=head, head_init=head_init, templates=templates, learn_scale=learn_scale
    )
    return _held(model, dtype)


def attach(
    model: nn.Module,
    method: MethodLike = "vpt-deep",
    *,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    head: str | nn.Module | None = None,
    head_init: Literal["vpt"] | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    learn_scale: bool = False,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    tokenizer: Callable[..., Any] | None = None,
    **options: Any,
) -> Prompted:
    """A method and a classifier on a backbone in hand, whose weights are shared and frozen.

    Args:
        model: of timm, open_clip, transformers or torchvision; or any module that makes features (B, F) of images, with
            preprocessing=, for methods that do not enter it.
        method: as in `create`, and so are the other arguments and the errors raised.
        classes: names of the classes; or
        num_classes: how many there are.
        head: "linear", "text" or a module.
        head_init: how a linear head begins, as in `create`.
        templates: sentences for class names.
        learn_scale: train the scale of the logits too.
        preprocessing: what the model was trained to see, as in `create`; by default what timm and open_clip keep with
            it, and of transformers' the image processor of the name that it was loaded by.
        tokenizer: of an image-text model's text side, one of transformers, or called as open_clip's are:
            texts and context_length= to ids. By default a live model of open_clip with CLIP's vocabulary is given
            CLIP's own, and one of transformers that of the name it was loaded by.
        options: of the method.
    """
    _check_types(model=(model, nn.Module), tokenizer=(tokenizer, Callable | None))
    names = _class_names(classes, num_classes)
    backbone = towers.wrap(model, tokenizer, preprocessing).prepared(preprocessing)
    return _assemble(
        backbone, method, names, options, head=head, head_init=head_init, templates=templates, learn_scale=learn_scale
    )


def load(
    source: str | Path,
    *,
    backbone: nn.Module | str | None = None,
    weights: str | Path | None = None,
    any_backbone: bool = False,
    dtype: Literal["fp32", "bf16"] | None = None,
    tokenizer: Callable[..., Any] | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    hub: Mapping[str, Any] | None = None,
    head: nn.Module | None = None,
) -> Prompted:
    """What `save_pretrained` wrote, in evaluation mode.

    Args:
        source: a folder, or a repository of the Hugging Face hub, "user/name" or "user/name@revision".
        backbone: a live model, or a name, in place of the one that was saved with.
        weights: the local file with the backbone's weights, where they were read from one in training; by default it is
            looked for where it last lay on this machine, and below VPT_DATA.
        any_backbone: load even if the backbone's weights, or its activations, are not those that were trained with.
        dtype: what the frozen encoders are held in, as in `create`; by default as they were in training. A live
            model is left as it is.
        tokenizer: of a live model's text side, as in `attach`.
        device: where the model is to be; by default the GPU that `fit` would take, or the CPU without one. A live
            model is left where it is.
        trust_remote_code: run Python code that the backbone's repository or folder brings; what is loaded cannot ask
            for it by itself.
        revision: of a repository: a branch, tag or commit; only a commit never changes.
        hub: further options of huggingface_hub's `snapshot_download`, such as token.
        head: the module that the model was made with, where that was one of one's own; its tensors are loaded into it.

    Raises:
        VptError: nothing to load, or a backbone with other weights.
    """
    if dtype is not None:
        _check_precision(dtype)
    _check_types(source=(source, str | Path), weights=(weights, str | Path | None))
    _check_types(backbone=(backbone, nn.Module | str | None), tokenizer=(tokenizer, Callable | None))
    tensors, facts = saving.read(source, revision=revision, hub=hub)
    recipe = facts.backbone
    if isinstance(backbone, nn.Module):
        if weights is not None:
            raise VptError(
                f"weights={weights!r} are those of a backbone by name, and a live one is given: leave it out."
            )
        found = towers.wrap(backbone, tokenizer, Preprocessing.from_dict(facts.preprocessing.model_dump()))
    else:
        with trusting(trust_remote_code):
            found = saved.load(recipe, str(source), name=backbone, weights=weights)
    with trusting(trust_remote_code):
        model = restored(found, tensors, facts, str(source), any_backbone=any_backbone, head=head)
    if isinstance(backbone, nn.Module):
        return model if device is None else model.to(chosen_device(device))
    return _held(model, dtype or recipe.dtype).to(chosen_device(device))


def restored(
    backbone: Backbone,
    tensors: dict[str, Tensor],
    facts: Facts,
    source: str,
    *,
    any_backbone: bool = False,
    fingerprint: Callable[[Mapping[str, Tensor]], str] = saving.fingerprint,
    head: nn.Module | None = None,
    remedy: str = "load the same weights or pass any_backbone=True",
) -> Prompted:
    """What `saving.read` gave, on a backbone that has been loaded.

    Args:
        backbone: whose encoders are frozen, and given what was tuned of them.
        tensors: what was learned.
        facts: what the saved model says of itself.
        source: it, for errors.
        any_backbone: as in `load`.
        fingerprint: of the frozen tensors.
        head: as in `load`.
        remedy: what can be done about another backbone, for errors.

    Raises:
        VptError: a backbone with other weights or activations.
    """
    recipe = facts.backbone
    learned = any(name.startswith("text.logit_") for name in tensors)
    with from_elsewhere():
        model = _assemble(
            backbone,
            facts.method.name,
            checked_classes(facts.learned_classes or facts.classes),
            facts.method.model_extra or {},
            head=_own_head(head, facts.head, str(source)),
            templates=facts.templates,
            learn_scale=learned,
            teach=False,
        )
    model.preprocessing = Preprocessing.from_dict(facts.preprocessing.model_dump())
    difference = first_difference(recipe.traits, model.recipe["backbone"]["traits"])
    if difference and not any_backbone:
        raise VptError(f"{source} {difference}: {remedy}.")
    actual = fingerprint(model.frozen_state())
    if actual != recipe.fingerprint and not any_backbone:
        commit = f", commit {recipe.revision} of the hub" if recipe.revision else ""
        trained = f"{recipe.name or 'a backbone'} of fingerprint {recipe.fingerprint}{commit}"
        here = f"the {backbone.name or 'backbone'} loaded here has {actual}"
        raise VptError(f"{source} was trained with {trained}, and {here}: {remedy}.")
    model.load_tuned_state(tensors)
    if facts.learned_classes:
        model.set_classes(facts.classes)
    return model


def _assemble(
    backbone: Backbone,
    method: MethodLike,
    classes: Sequence[str],
    options: Mapping[str, Any],
    *,
    head: str | nn.Module | None,
    templates: Sequence[str],
    learn_scale: bool,
    head_init: Literal["vpt"] | None = None,
    teach: bool = True,
) -> Prompted:
    method, with_it = called(method)
    kind: Any = find(method)
    values = checked(kind, with_it | dict(options), "method")
    own = head if isinstance(head, nn.Module) else None
    if own is not None:
        _check_head(own, backbone.tower.num_features, len(classes))
    head = "linear" if isinstance(head, nn.Module) else kind.head if head is None else head
    if head not in kind.heads:
        raise VptError(f"head={head!r}: {method} takes {' or '.join(kind.heads)}.")
    if head_init is not None and (head_init != "vpt" or head == "text"):
        raise VptError(f"head_init={head_init!r}: a linear head takes vpt, and class names as classifier take none.")
    pair = backbone.pair if head == "text" else None
    if isinstance(pair, str):
        raise VptError(
            f"{backbone.name or 'this model'} has no text side for head='text' ({pair}): take an image-text model "
            "such as vpt/clip-nano or open_clip/ViT-B-16/openai."
        )
    text = pair.text if pair else None
    model = Prompted(
        backbone.tower,
        fits.made(kind, backbone.tower, text, values, head=head, name=backbone.name or "this model"),
        classes=classes,
        pair=pair,
        templates=checked_templates(templates),
        learn_scale=learn_scale,
        head_init=head_init,
        head=own,
        preprocessing=backbone.preprocessing,
        recipe={
            "backbone": backbone.recipe() | {"traits": traits(backbone.tower, *([pair.text] if pair else []))},
            "method": {"name": method, **values},
            "head": "own" if own is not None else head,
        },
    )
    if model.method.teacher is not None and teach:
        model.teach(load(model_folder(model.method.teacher), device="cpu"))
    return model


@torch.no_grad()
def _check_head(head: nn.Module, num_features: int, num_classes: int) -> None:
    """Nothing, if a head of one's own takes features and gives a number for each class.

    Raises:
        VptError: it does not.
    """
    like, name = next(head.parameters(), torch.empty(0)), f"head={type(head).__name__}"
    with evaluating(head):
        try:
            shape = tuple(head(like.new_zeros(2, num_features)).shape)
        except RuntimeError as error:
            raise VptError(f"{name} does not take features (B, {num_features}): {error}.") from error
    if shape != (2, num_classes):
        raise VptError(
            f"{name} makes {shape} of features (2, {num_features}), and should make (2, {num_classes}) for "
            f"{num_classes} classes: give its last layer as many outputs."
        )


def _own_head(head: nn.Module | None, said: str, source: str) -> str | nn.Module:
    """The head of a saved model.

    Raises:
        VptError: it was saved with a module that is not given, or the other way round.
    """
    if said == "own" and head is None:
        raise VptError(f"{source} was saved with a head of its maker's own: give such a module, as head=….")
    if said != "own" and head is not None:
        raise VptError(f"{source} was saved with head={said!r}: leave head=… out.")
    return said if head is None else head


def _check_types(**arguments: tuple[Any, Any]) -> None:
    """Nothing, if every argument, given as its value and what it may be, is that.

    Raises:
        TypeError: one is not.
    """
    for name, (value, kinds) in arguments.items():
        if not isinstance(value, kinds):
            shown = getattr(kinds, "__name__", str(kinds)).replace("pathlib.", "").replace("collections.abc.", "")
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}, and should be {shown}.")


def _check_precision(dtype: str) -> None:
    if dtype not in PRECISIONS:
        raise VptError(f"dtype={dtype!r} is not one of {', '.join(PRECISIONS)}.")


def _held(model: Prompted, dtype: str) -> Prompted:
    """`model` with its frozen encoders in this precision.

    Raises:
        VptError: half precision, for a method that trains the encoders themselves.
    """
    if dtype == "fp32":
        return model
    towers = [model.tower] if model.text is None else [model.tower, model.text.tower]
    if any(parameter.requires_grad for tower in towers for parameter in tower.parameters()):
        raise VptError(
            f"dtype={dtype} holds what is frozen, and {model.method.name} trains the backbone: leave it out."
        )
    for tower in towers:
        tower.to(torch.bfloat16)
    model.recipe["backbone"]["dtype"] = dtype
    return model


def _class_names(classes: Sequence[str] | None, num_classes: int | None) -> tuple[str, ...]:
    # numpy's whole numbers too, as labels.max() + 1 is one.
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, Integral)):
        raise VptError(f"num_classes={num_classes!r} is no whole number: say how many classes there are.")
    if num_classes is not None and not 1 <= num_classes <= MOST_CLASSES:
        raise VptError(f"num_classes={num_classes}: a classifier has from 1 to {MOST_CLASSES:,} classes.")
    names = checked_classes(classes if classes is not None else [str(i) for i in range(int(num_classes or 0))])
    if num_classes is not None and len(names) != num_classes:
        raise VptError(f"num_classes={num_classes}, but {len(names)} classes are named: leave one of the two out.")
    return names
