"""Files of a tuned model: one of tensors, one of facts, one to read. Never the backbone."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vpt.errors import VptError

TENSORS = "vpt.safetensors"
FACTS = "vpt.json"
CARD = "README.md"


def write(
    folder: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], card: str, *, overwrite: bool
) -> None:
    """Write the three files into `folder`, which is made; each appears whole or not at all.

    Raises:
        VptError: something is in the folder already and `overwrite` is not set.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(ready, folder / f".{TENSORS}", metadata={"format": "pt"})
    (folder / f".{FACTS}").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f".{CARD}").write_text(card, encoding="utf-8")
    for name in (TENSORS, FACTS, CARD):
        os.replace(folder / f".{name}", folder / name)


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Whether a file or folder may be written to `path`.

    Raises:
        VptError: a file, or a folder that holds something, is there already and `overwrite` is not set.
    """
    path = Path(path)
    if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        is_there = "holds something" if path.is_dir() else "is there"
        raise VptError(f"{path} {is_there} already: name another place, or say overwrite.")


def read(source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a folder, or of a repository of the Hugging Face hub ("user/name").

    Raises:
        VptError: there is no such folder or repository, or what it holds is damaged.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source))
    missing = [name for name in (TENSORS, FACTS) if not (folder / name).is_file()]
    if missing:
        raise VptError(f"{folder} holds no tuned model: {' and '.join(missing)} missing.")
    try:
        return load_file(folder / TENSORS), json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise VptError(f"{folder} holds a damaged model ({error}): save or download it again.") from error


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A digest of the names, shapes and values of weights, the same for every precision they are held in.

    Values are rounded to bfloat16 first, so that a backbone held in bfloat16, float16 or float32 has one
    fingerprint.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    libraries = ("vpt", "torch", "torchvision", "timm", "open_clip_torch", "transformers", "accelerate")
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise VptError(f"there is no folder {repository!r}: name one that save_pretrained or a run wrote.")
    try:
        return Path(snapshot_download(repository, allow_patterns=[TENSORS, FACTS, CARD]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise VptError(
            f"{repository!r} is no folder here, and could not be had from the Hugging Face hub: {reason}"
        ) from error
