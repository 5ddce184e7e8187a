"""Prompts that others have published: files of the papers' own code, as models of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpt.assemble import create
from vpt.errors import VptError, did_you_mean
from vpt.model import Prompted
from vpt.towers.weights import checkpoint

Tensors = Mapping[str, Tensor]

# Tensors of a file that belong to the frozen model or to class names, which are made anew.
LEARNER = "prompt_learner."


@dataclass
class Found:
    """What a file holds of a method.

    Attributes:
        options: of the method, by the shapes of what was learned.
        tensors: what was learned, by the names that the method had for it when the format was first read.
        used: the names in the file that they came from.
    """

    options: dict[str, Any]
    tensors: dict[str, Tensor]
    used: set[str] = field(default_factory=set)


def import_file(
    path: str | Path,
    method: str,
    backbone: str,
    *,
    classes: Sequence[str] | None = None,
    weights: str | Path | None = None,
    image_size: int | None = None,
    pretrained: bool = True,
    options: Mapping[str, Any] | None = None,
) -> tuple[Prompted, Found, list[str]]:
    """A model with what a file of a paper's own code has learned.

    Read are the checkpoints that Dassl writes for CoOp, CoCoOp, KgCoOp, ProGrad, MaPLe, IVLP and PromptSRC
    (`model.pth.tar-N`, `model-best.pth.tar`), and CLIP-LoRA's `.pt`. Nothing in them is run.

    Args:
        path: the file.
        method: as `vpt list methods` shows.
        backbone: the frozen model that it was trained on, by name.
        classes: names, where what was learned belongs to them (class-specific context).
        weights: a local file with the backbone's weights.
        image_size: side of its images.
        pretrained: load the backbone's weights.
        options: of the method, which no shape tells, such as the words that MaPLe's prompts began as.

    Returns:
        The model, what was found, and the names of tensors that are of no use here.

    Raises:
        VptError: no layout is known for the method, or the file does not hold what such a method learns.
    """
    if method not in LAYOUTS:
        raise VptError(f"no published layout of {method} is known: {did_you_mean(method, LAYOUTS)}")
    flat, said = _flat(checkpoint(Path(path)))
    try:
        found = LAYOUTS[method](flat, said)
    except KeyError as error:
        there = ", ".join(list(flat)[:4]) or "no tensors"
        raise VptError(
            f"{path} does not hold what {method} learns: {error.args[0]} is missing; it has {there}."
        ) from error
    model = create(
        backbone,
        method,
        classes=classes,
        num_classes=None if classes else _num_classes(found),
        weights=weights,
        image_size=image_size,
        pretrained=pretrained,
        **{**found.options, **(options or {})},
    )
    if method == "clip-lora":
        found.tensors = _lora_tensors(flat, said, model)
    state = model.tuned_state()
    learned = {model._name_now(f"method.{name}"): tensor.float() for name, tensor in found.tensors.items()}
    strange = [name for name in learned if name not in state]
    if strange:
        raise VptError(f"{path} holds {strange[0]}, which {method} on {backbone} has not: give its options.")
    model.load_tuned_state(state | learned)
    return model.eval(), found, sorted(name for name in flat if name not in found.used)


def _num_classes(found: Found) -> int | None:
    return len(found.tensors["values"]) if found.options.get("csc") else None


def _flat(held: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of nested mappings by dotted names, of the state dict where there is one, and all that is no tensor."""
    said = dict(held["metadata"]) if isinstance(held, Mapping) and isinstance(held.get("metadata"), Mapping) else {}
    if isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    flat: dict[str, Tensor] = {}

    def walk(part: Any, name: str) -> None:
        if isinstance(part, Tensor):
            flat[name.removeprefix("module.")] = part
        elif isinstance(part, Mapping):
            for key, value in part.items():
                walk(value, f"{name}.{key}" if name else str(key))

    walk(held, "")
    return flat, said


def _context(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """CoOp's context, and that of those who build on it: (n, D), or (C, n, D) for each class."""
    name = _first(flat, "ctx")
    values = flat[name]
    own: dict[str, Any] = {"csc": True} if values.ndim == 3 else {}
    values = values if values.ndim == 3 else values[None]
    return Found({"init": None, "num_tokens": values.shape[1], **own}, {"values": values}, {name})


def _conditional(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """CoCoOp's context, and its network of two layers."""
    found = _context(flat, said)
    for layer, number in (("linear1", 0), ("linear2", 2)):
        for kind in ("weight", "bias"):
            name = _first(flat, f"meta_net.{layer}.{kind}")
            found.tensors[f"meta_net.{number}.{kind}"] = flat[name]
            found.used.add(name)
    return found


def _coupled(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """MaPLe's text prompts, and the layers that make image prompts of them."""
    deeper = _numbered(flat, "compound_prompts_text.{}")
    texts = [_first(flat, "ctx"), *deeper]
    layers = [_first(flat, "proj.weight"), *_numbered(flat, "compound_prompt_projections.{}.weight")]
    if len(layers) != len(texts):
        raise VptError(f"the file has prompts of {len(texts)} blocks and layers for {len(layers)}: it is not MaPLe's.")
    used, tensors = {*texts}, {"text_values": torch.stack([flat[name] for name in texts])}
    for number, layer in enumerate(layers):
        for kind in ("weight", "bias"):
            name = layer.removesuffix("weight") + kind
            tensors[f"project.{number}.{kind}"] = flat[name]
            used.add(name)
    return Found({"num_context": len(flat[texts[0]]), "depth": len(texts)}, tensors, used)


def _independent(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """Text and image prompts of IVLP and PromptSRC: those of later blocks stand in the blocks."""
    block = "_encoder.transformer.resblocks.{}.VPT_shallow"
    texts = [_first(flat, "ctx"), *_numbered(flat, f"text{block}", 1)]
    images = [_first(flat, "image_encoder.VPT"), *_numbered(flat, f"image{block}", 1)]
    if len(texts) != len(images):
        raise VptError(
            f"the file has text prompts of {len(texts)} blocks and image prompts of {len(images)}, and both have to be "
            "of as many."
        )
    tensors = {
        "text_values": torch.stack([flat[name] for name in texts]),
        "image_values": torch.stack([flat[name] for name in images]),
    }
    options = {"num_context": len(flat[texts[0]]), "num_tokens": len(flat[images[0]]), "depth": len(texts)}
    return Found(options, tensors, {*texts, *images})


def _averaged(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """PromptSRC's, whose sum over epochs is what it has come to."""
    found = _independent(flat, said)
    found.tensors |= {f"sum_{name}": tensor for name, tensor in found.tensors.items()}
    return found


def _low_rank(flat: Tensors, said: Mapping[str, Any]) -> Found:
    """CLIP-LoRA's options; its tensors are sorted when the depth of the encoders is known."""
    names = [name for name in flat if name.endswith(("w_lora_A", "w_lora_B"))]
    if not names:
        raise KeyError("weights.layer_0.q_proj.w_lora_A")
    projections = "".join(each for each in "qkv" if any(f".{each}_proj." in name for name in names))
    if any(".proj.w_lora" in name for name in names):
        raise VptError("the file adds to the output projection of attention too, which clip-lora here does not.")
    rank = flat[next(name for name in names if name.endswith("A"))].shape[0]
    options: dict[str, Any] = {"rank": rank, "projections": projections}
    options |= {"alpha": float(said["alpha"])} if "alpha" in said else {}
    options |= {"encoder": {"vision": "image"}.get(said["encoder"], said["encoder"])} if "encoder" in said else {}
    return Found(options, {}, set(names))


def _lora_tensors(flat: Tensors, said: Mapping[str, Any], model: Prompted) -> dict[str, Tensor]:
    """CLIP-LoRA's matrices, whose layers are those of the text encoder and then of the image encoder."""
    encoder = {"vision": "image"}.get(said.get("encoder", "both"), said.get("encoder", "both"))
    depths = {"text": 0 if model.text is None else model.text.tower.depth, "image": model.tower.depth}
    chosen = ["text", "image"] if encoder == "both" else [encoder]
    count = len({name.split(".layer_")[1].split(".")[0] for name in flat if ".layer_" in name})
    if count != sum(depths[each] for each in chosen):
        raise VptError(
            f"the file has matrices of {count} blocks, and the encoders have {sum(depths[each] for each in chosen)}: "
            "clip-lora adds to all blocks."
        )
    tensors, start = {}, 0
    for each in chosen:
        layers = range(start, start + depths[each])
        start += depths[each]
        parts = [q for q in "qkv" if f"weights.layer_{layers[0]}.{q}_proj.w_lora_A" in flat]
        for kind, name in (("down", "A"), ("up", "B")):
            rows = [[flat[f"weights.layer_{i}.{q}_proj.w_lora_{name}"] for q in parts] for i in layers]
            tensors[f"{each}.{kind}"] = torch.stack([torch.stack(row) for row in rows])
    return tensors


LAYOUTS: dict[str, Callable[[Tensors, Mapping[str, Any]], Found]] = {
    "coop": _context,
    "cocoop": _conditional,
    "kgcoop": _context,
    "prograd": _context,
    "maple": _coupled,
    "ivlp": _independent,
    "promptsrc": _averaged,
    "clip-lora": _low_rank,
}


def _first(flat: Tensors, name: str) -> str:
    """The name in a file of one part or of a whole model.

    Raises:
        KeyError: it is in neither.
    """
    found = next((each for each in (name, LEARNER + name) if each in flat), None)
    if found is None:
        raise KeyError(LEARNER + name if "." not in name else name)
    return found


def _numbered(flat: Tensors, name: str, start: int = 0) -> list[str]:
    """The names with numbers from `start` on, as many as there are."""
    found: list[str] = []
    while True:
        each = name.format(start + len(found))
        here = next((full for full in (each, LEARNER + each) if full in flat), None)
        if here is None:
            return found
        found.append(here)
