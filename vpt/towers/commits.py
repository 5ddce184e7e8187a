"""Which commit of a repository of the Hugging Face hub was loaded, as its cache has it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

# One of them is loaded of every model.
FILES = ("model.safetensors", "pytorch_model.bin", "config.json")


def commit_of(repository: str, revision: str | None = None) -> str | None:
    """The commit, in forty hexadecimal digits; None for what is no repository, or is not in the cache.

    Args:
        repository: "user/name".
        revision: a branch, tag or commit; the main branch by default.
    """
    if repository.count("/") != 1 or Path(repository).exists():
        return None
    found = (try_to_load_from_cache(repository, file, revision=revision) for file in FILES)
    return next((Path(path).parent.name for path in found if isinstance(path, str)), None)
