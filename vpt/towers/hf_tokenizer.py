"""Tokenizers of transformers, called as open_clip's are: texts and `context_length=` to ids."""

from __future__ import annotations

from contextlib import suppress
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.towers.text import Tokenizer
from vpt.trust import HOW

# What transformers reads SigLIP's words by, and does not install itself.
SIGLIP_PACKAGES = ("sentencepiece", "protobuf")


def adapted(tokenizer: Any) -> Tokenizer:
    """A tokenizer of transformers as one of open_clip; any other callable as it is.

    Raises:
        VptError: it has no token to fill up texts with.
    """
    # transformers itself need not be installed for the tokenizers of open_clip.
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        given: Tokenizer = tokenizer
        return given
    if tokenizer.pad_token is None:
        raise VptError(f"this {type(tokenizer).__name__} has no padding token: set its pad_token.")
    return partial(_tokenized, tokenizer)


def by_name(name: str, trust_remote_code: bool = False, revision: str | None = None) -> Tokenizer:
    """The tokenizer of a model on the Hugging Face hub or in a folder, which is loaded when it is first called.

    Args:
        name: as transformers takes it.
        trust_remote_code: run Python code that comes with it.
        revision: of the hub's repository.

    Raises:
        VptError: when called, if it cannot be had.
    """
    return partial(_tokenized_by_name, name, trust_remote_code, revision)


def _tokenized(tokenizer: Any, texts: list[str], context_length: int) -> Tensor:
    """Ids (N, L), filled up behind the text; what is cut off is words, and the end token stays."""
    found = tokenizer(texts, padding="max_length", padding_side="right", truncation=True, max_length=context_length)
    return torch.tensor(found["input_ids"], dtype=torch.long)


def _tokenized_by_name(
    name: str, trust_remote_code: bool, revision: str | None, texts: list[str], context_length: int
) -> Tensor:
    return _loaded(name, trust_remote_code, revision)(texts, context_length=context_length)


@cache
def _loaded(name: str, trust_remote_code: bool, revision: str | None) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        # Where the files are missing, transformers makes a tokenizer that knows no words.
        if len(found) <= len(found.all_special_tokens):
            raise OSError("its files are not there")
    # Without its files SigLIP's tokenizer fails as Python code does, and not as files do.
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ImportError) and any(each in str(error).lower() for each in SIGLIP_PACKAGES):
            raise VptError(
                f"the tokenizer of hf/{name} needs other packages: pip install {' '.join(SIGLIP_PACKAGES)}, or pass "
                "tokenizer=… to vpt.attach."
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VptError(
            f"the tokenizer of hf/{name} could not be had ({reason}): "
            f"{HOW if _has_code(name) else 'check the network, or pass tokenizer=… to vpt.attach'}."
        ) from error
    return adapted(found)


def _has_code(name: str) -> bool:
    """Whether a tokenizer brings code, which transformers passes over where it may not run."""
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    with suppress(OSError, ValueError):
        return "auto_map" in get_tokenizer_config(name)
    return False
