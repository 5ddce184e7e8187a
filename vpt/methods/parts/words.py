"""Words as a text encoder takes them: their tokens, and the embeddings of those."""

from __future__ import annotations

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.encoders import TextEncoder
from vpt.precision import full_precision


@torch.no_grad()
def word_embeddings(text: TextEncoder, words: str) -> Tensor:
    """Embeddings (n, D) of the n tokens of `words`, in float32 or more; errors as those of `token_ids`."""
    ids = token_ids(text, words)
    device = next(iter(dict(text.named_parameters()).values())).device
    return full_precision(text.words(ids[None].to(device))[0])


def token_ids(text: TextEncoder, words: str) -> Tensor:
    """The n tokens of `words`, (n,).

    Raises:
        VptError: there are none, they do not stay the same before other words, or there are too many.
    """
    with torch.device("cpu"):
        ids, rest = text.tokenize([f"{words.strip()} x."]), text.tokenize(["x."])
    start, length = text.start, text.context_length
    for count in range(1, length - start - 2):
        # A text that begins with these tokens goes on as it would without them.
        if torch.equal(torch.cat([ids[:, :start], ids[:, start + count :]], dim=1), rest[:, : length - count]):
            return ids[0, start : start + count]
    raise VptError(f"init={words!r} cannot be context: give at least one word, and no more than a text has places for.")


def initial_words(text: TextEncoder, words: str, num_context: int) -> tuple[Tensor, str]:
    """Embeddings (n, D) of the first `num_context` tokens of `words`, and the template of what follows them.

    Raises:
        VptError: the tokens do not end where a word ends, or there are fewer.
    """
    parts = words.split()
    for count in range(1, len(parts) + 1):
        found = word_embeddings(text, " ".join(parts[:count]))
        if len(found) == num_context:
            return found, " ".join([*parts[count:], "{}."])
    raise VptError(
        f"no words at the beginning of init={words!r} are num_context={num_context} tokens: give another number, "
        "or init=None for random context."
    )


def full_stop(text: TextEncoder, position: str) -> int:
    """The token of a "." that stands by itself.

    Raises:
        VptError: the encoder does not end a text behind it.
    """
    with torch.device("cpu"):
        ids = text.tokenize(["x."])
    if int(text.lengths(ids)) != text.start + 3:
        raise VptError(f"position={position!r}: this text encoder does not tell where names end; use position='end'.")
    return int(ids[0, text.start + 1])
