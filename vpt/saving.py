"""Files of a tuned model: one of tensors, one of facts, one to read. Never the backbone."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vpt import __version__, digest, files
from vpt.errors import VptError
from vpt.facts import FORMAT, Facts, checked_facts

TENSORS = "vpt.safetensors"
FACTS = "vpt.json"
CARD = "README.md"

# Of a file of facts, in bytes: names of 20,000 classes take one million.
LARGEST = 100_000_000


def write(
    folder: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], card: str, *, overwrite: bool
) -> None:
    """Write the three files into `folder`, which is made; each appears whole or not at all.

    The facts hold the digest of the tensors. Both are written before either takes its place, so that a process which
    dies in between leaves the one that belongs to the other.

    Raises:
        VptError: something is in the folder already and `overwrite` is not set, or it cannot be written to.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    files.make_folder(folder)
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # The last of them is renamed first.
    with (
        files.replacing(folder / CARD) as new_card,
        files.replacing(folder / FACTS) as new_facts,
        files.replacing(folder / TENSORS) as new_tensors,
    ):
        save_file(ready, new_tensors, metadata={"format": "pt"})
        said = {"format": FORMAT, **facts, "tensors": digest.of_file(new_tensors)}
        said = json.loads(json.dumps(said))
        said["digest"] = digest_of(said)
        new_facts.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        new_card.write_text(card, encoding="utf-8")
        files.flush(new_facts)


def check_free(path: str | Path, *, overwrite: bool) -> None:
    """Whether a file or folder may be written to `path`.

    Raises:
        VptError: a file, or a folder that holds something, is there already and `overwrite` is not set.
    """
    path = Path(path)
    if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        is_there = "holds something" if path.is_dir() else "is there"
        raise VptError(f"{path} {is_there} already: name another place, or say overwrite.")


def check_out(path: str | Path, *, overwrite: bool) -> None:
    """Whether a file or folder may be and can be written to `path`: asked before the work that leads to it.

    Raises:
        VptError: as `check_free`; or the place cannot be written to.
    """
    check_free(path, overwrite=overwrite)
    files.check_place(Path(path))


def read(
    source: str | Path, *, revision: str | None = None, hub: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], Facts]:
    """Tensors and facts of a folder, or of a repository of the Hugging Face hub ("user/name").

    Args:
        source: the folder or repository, which may have "@revision" behind it.
        revision: of the repository: a branch, tag or commit.
        hub: further options of huggingface_hub's `snapshot_download`.

    Raises:
        VptError: there is no such folder or repository, or what it holds is damaged, or makes no sense.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision, hub or {})
    elif revision is not None:
        raise VptError(f"{source} is a folder here, and has no revision {revision!r}: leave it out.")
    missing = [name for name in (TENSORS, FACTS) if not (folder / name).is_file()]
    if missing:
        best = folder / "best"
        hint = f"; it is a run, whose model is in {best}" if (best / FACTS).is_file() else ""
        raise VptError(f"{folder} holds no tuned model: {' and '.join(missing)} missing{hint}.")
    try:
        return _read_folder(folder)
    except OSError as error:
        # It goes at this moment, or is another user's.
        raise VptError(f"{folder} cannot be read ({error}): see that it is there, and may be read.") from error


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], Facts]:
    facts = _read_facts(folder / FACTS)
    if facts.tensors and facts.tensors != (actual := digest.of_file(folder / TENSORS)):
        # A process that died while it wrote may have left the facts of the new tensors beside those of the old ones.
        new = files.temporary(folder / FACTS)
        facts = _read_facts(new) if new.is_file() else facts
        if facts.tensors != actual:
            raise VptError(
                f"{folder} holds a damaged model ({TENSORS} is not as it was saved): save or download it again."
            )
    try:
        return load_file(folder / TENSORS), facts
    except SafetensorError as error:
        raise VptError(f"{folder} holds a damaged model ({error}): save or download it again.") from error


def _read_facts(path: Path) -> Facts:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.name} is larger than {LARGEST:,} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VptError(f"{path.parent} holds a damaged model ({error}): save or download it again.") from error
    facts = checked_facts(values, str(path))
    if facts.digest and facts.digest != digest_of(values):
        raise VptError(
            f"{path} is not as it was saved: save or download the model again; if it was you who changed it, take its "
            'lines "digest" and "format" out.'
        )
    return facts


def digest_of(facts: Mapping[str, Any]) -> str:
    """A digest of facts, whatever the order and layout they are written in; their own "digest" is left out."""
    rest = {key: value for key, value in facts.items() if key != "digest"}
    return digest.of_bytes(json.dumps(rest, sort_keys=True).encode())


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A digest of the names, shapes and values of weights, the same for every precision they are held in.

    Values are rounded to bfloat16 first, so that a backbone held in bfloat16, float16 or float32 has one
    fingerprint.
    """
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        rounded = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        sha256.update(f"{name} {tuple(tensor.shape)}".encode())
        sha256.update(rounded.view(torch.int16).numpy().tobytes())
    return sha256.hexdigest()[:32]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version(), "vpt": __version__} | _of_libraries()


@cache
def _of_libraries() -> dict[str, str]:
    """They are read from files, and do not change while this runs."""
    libraries = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "accelerate")
    return {name: version(name) for name in libraries}


def _download(source: str, revision: str | None, hub: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, pinned = source.partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise VptError(f"there is no folder {source!r}: name one that save_pretrained or a run wrote.")
    if pinned and revision is not None and pinned != revision:
        raise VptError(f"{source!r} and revision={revision!r} name two revisions: leave one of them out.")
    try:
        files = [TENSORS, FACTS, CARD]
        return Path(snapshot_download(repository, revision=revision or pinned or None, allow_patterns=files, **hub))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise VptError(
            f"{source!r} is no folder here, and could not be had from the Hugging Face hub: {reason}"
        ) from error
