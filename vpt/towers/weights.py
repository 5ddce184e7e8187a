"""Files of weights: read without running anything in them, and fitted to a model by the names of its tensors."""

from __future__ import annotations

import argparse
import pickle
import struct
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vpt.errors import VptError
from vpt.report.notes import tell
from vpt.towers.memory import check_room
from vpt.towers.torchscript import read_archive

# Where training code keeps the tensors of a model, the one to be used first; averaged weights before the others.
INSIDE = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "teacher",
    "target_encoder",
    "encoder",
    "module",
    "net",
    "student",
)

# Beside tensors checkpoints hold their command line, a class without any behaviour, and numbers of NumPy.
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    scalar,
    (scalar, "numpy.core.multiarray.scalar"),
]

# What libraries raise of files of weights that are damaged, cut off or something else, or hold more than tensors.
UNREADABLE = (EOFError, OSError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile)

# Of what a library says of an error, so many signs are told.
LONGEST = 300


def kind_of(path: Path) -> str:
    """ "safetensors", "torch", "torchscript" or "npz", by the content of a file and not by its name.

    Raises:
        VptError: it is none of them.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size:
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch"
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            unpacked = sum(entry.file_size for entry in archive.infolist())
        check_room(unpacked, f"{path} holds")
        if "constants.pkl" in names:
            return "torchscript"
        return "torch" if "data.pkl" in names else "npz"
    if start.startswith(b"PK"):
        raise VptError(f"{path} is cut off: copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise VptError(f"{path} is a pointer of Git LFS and not the file itself: get it with `git lfs pull`.")
    said = "is empty" if not start else f"begins with {start[:24]!r}"
    raise VptError(f"{path} is no file of weights: it {said}; copy or download it again.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: safetensors or torch's, a state dict, a checkpoint that holds one, or TorchScript.

    An .npz of Google's is left to the libraries that know its layout, and gives no tensors here.

    Raises:
        VptError: it is damaged, holds no tensors, or more than data, none of which is run.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise VptError(f"{path} is damaged ({error}): copy or download it again.") from error
    if kind == "npz":
        return {}
    if kind == "torchscript":
        return read_archive(path)
    return _state_dict(_unpickled(path), path)


def checkpoint(path: Path) -> Any:
    """All that a file of torch's holds: tensors, numbers and containers, as they are nested in it.

    Raises:
        VptError: it is no such file, is damaged, or holds more than data, none of which is run.
    """
    if not path.is_file():
        raise VptError(f"there is no file {str(path)!r}: correct the path.")
    if kind_of(path) != "torch":
        return read_weights(path)
    return _unpickled(path)


def fitted(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str, *, spare: Collection[str] = ()
) -> dict[str, Tensor]:
    """Those tensors of a file that a model has; what the file has beyond them is counted and named.

    Args:
        state: of the file.
        own: of the model.
        where: "FILE … model", to begin the sentence of an error with.
        spare: beginnings of names that are not needed, such as the classifier's.

    Raises:
        VptError: a tensor is missing or has another shape.
    """
    needed = [name for name in own if not name.startswith(tuple(spare))]
    missing = [name for name in needed if name not in state]
    if missing:
        there = f"it has {', '.join(list(state)[:3])}, …" if state else "it has none"
        raise VptError(
            f"{where}: {len(missing)} of {len(needed)} tensors are missing, first {missing[0]}; {there}"
            f"{_hint(where, state)}"
        )
    other = [name for name in needed if state[name].shape != own[name].shape]
    if other:
        shapes = f"{tuple(state[other[0]].shape)}, the model's {tuple(own[other[0]].shape)}"
        raise VptError(f"{where}: {len(other)} tensors have another shape, first {other[0]} {shapes}.")
    senseless = [name for name in needed if not _has_numbers(state[name], own[name])]
    if senseless:
        raise VptError(f"{where}: {len(senseless)} tensors hold no finite real numbers, first {senseless[0]}.")
    unused = [name for name in state if name not in own and not name.startswith(tuple(spare))]
    if unused:
        shown = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
        tell(f"{where}: {len(unused)} further tensors are left out ({shown}).")
    return {name: state[name] for name in needed}


def _has_numbers(tensor: Tensor, own: Tensor) -> bool:
    """Whether the values can be those of a model's tensor."""
    if not own.is_floating_point():
        return True
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def without_prefix(state: Mapping[str, Tensor], own: Collection[str], where: str) -> dict[str, Tensor]:
    """`state` with the names that a model has, where all of them stand behind one word such as "module.backbone.".

    Of two copies that fit equally well (MoCo's encoder and its moving average) the first is taken, and named.
    """
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts)))
        end = next((each for each in ends if each in own), None)
        if end is not None:
            counts[name.removesuffix(end)] += 1
    best = max(counts.values(), default=0)
    chosen, *others = [prefix for prefix, count in counts.items() if count == best] or [""]
    # A few names, "norm.weight" for one, many models have.
    if not chosen or 2 * best < len(own):
        return dict(state)
    rest = sum(not name.startswith((chosen, *others)) for name in state)
    if others or rest:
        also = f", and not those of {', '.join(map(repr, others))}" if others else ""
        tell(f"{where}: the tensors of {chosen!r} are taken{also}; {rest} others are left out.")
    return {name.removeprefix(chosen): tensor for name, tensor in state.items() if name.startswith(chosen)}


def reason_of(error: BaseException) -> str:
    """What an error of a library says, as the middle of a sentence."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights hold more than tensors, and none of that is run"
    said = " ".join(str(error).split()).rstrip(".:") or type(error).__name__
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]} …"
    return f"{said} is not known" if isinstance(error, KeyError) else said


def _unpickled(path: Path) -> Any:
    """What torch saved: tensors, numbers and containers; anything else in the file is refused before it is made."""
    with torch.serialization.safe_globals(HARMLESS), path.open("rb") as file:
        try:
            # Of a path torch would look at the suffix.
            return torch.load(file, map_location="cpu", weights_only=True)
        # A damaged or malicious pickle may raise anything at all.
        except Exception as error:
            raise VptError(f"{path} {_why_not_unpickled(path)}") from error


def _why_not_unpickled(path: Path) -> str:
    try:
        strange = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    # As above; and files of before 2018 cannot be looked into.
    except Exception:
        strange = []
    if strange:
        return (
            f"holds more than tensors ({', '.join(strange[:3])}), and none of that is run: where it was made, save the "
            "state dict alone with torch.save(model.state_dict(), FILE)."
        )
    return "is damaged, or holds more than tensors: copy or download it again, or save the state dict alone."


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(4):
        if not isinstance(found, Mapping):
            break
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        inner = [value for value in found.values() if isinstance(value, Mapping) and value]
        named = [found[name] for name in INSIDE if isinstance(found.get(name), Mapping) and found[name]]
        if tensors and not named:
            return tensors
        if not (named or inner):
            break
        found = (named or inner)[0]
    raise VptError(f"{path} holds no state dict: save one with torch.save(model.state_dict(), FILE).")


def _hint(where: str, state: Mapping[str, Tensor]) -> str:
    """The end of a sentence: what other library the file seems to be of, by names that it has."""
    known = {
        "vision_model.": "hf/",
        "encoder.layer.": "hf/",
        "encoder_layer_": "torchvision/",
        "visual.": "open_clip/",
        "blocks.0.attn.qkv": "timm/",
    }
    for part, library in known.items():
        if library not in where and any(part in name for name in state):
            return f" as models of {library}… have them."
    return "."
