"""Prompt-aligned Gradient (ProGrad), Zhu et al., ICCV 2023, https://arxiv.org/abs/2205.14865."""

from __future__ import annotations

from typing import Literal

import torch

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.coop import RENAMED
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.conflicts import NoConflict
from vpt.methods.parts.context import Context
from vpt.methods.parts.words import token_ids


class ProGrad(Method):
    """CoOp that takes no step against what the hand-written templates say (equation 4).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; zeros stand before the words where it is more than those are.
        init_count: how many tokens of `init` are learned: all of them, or, with "words", as many as there are words
            between blanks, as in the paper's code. There a comma is a token and no word, so that the last tokens of "a
            type of pet, a photo of a" stay before the class name as they are.
        lambd: λ in equation 4; with 0 the gradient is that of CoOp.
    """

    name = "prograd"
    source = "Zhu et al., ICCV 2023"
    head = "text"
    heads = ("text",)
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = "a photo of a",
        num_tokens: int | None = None,
        init_count: Literal["tokens", "words"] = "tokens",
        lambd: float = 1.0,
    ) -> None:
        rest = ""
        if init_count == "words" and init is not None and text is not None:
            init, rest = _cut(text, init)
        context = Context(text, self.name, init=init, num_tokens=num_tokens, pads=True)
        super().__init__(context=context, gradient=NoConflict(lambd))
        self.template = f"{rest} {{}}.".strip()


def _cut(text: TextEncoder, init: str) -> tuple[str, str]:
    """`init` behind as many tokens as it has words.

    Raises:
        VptError: that is within a word.
    """
    ids, count = token_ids(text, init), len(init.split())
    if len(ids) == count:
        return init, ""
    for place in range(1, len(init)):
        parts = init[:place], init[place:]
        if all(part.strip() for part in parts):
            found = [token_ids(text, part) for part in parts]
            if torch.equal(found[0], ids[:count]) and torch.equal(found[1], ids[count:]):
                return parts[0].strip(), parts[1].strip()
    raise VptError(
        f"init={init!r} has {count} words, and its first {count} tokens end within one: leave init_count out."
    )
