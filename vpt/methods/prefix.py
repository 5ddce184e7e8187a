"""Prefix tuning, Li and Liang, ACL 2021, https://arxiv.org/abs/2101.00190, in an image encoder."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.keys_values import LearnedKeysValues


class Prefix(Method):
    """New keys and values for the attention of every block, which all tokens attend to.

    Section 4.2, without the MLP that makes them in training there: they are learned as they are, as in later tables of
    vision transformers. N(0, 0.02) at first.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        num_tokens: keys, and values, a block.

    Raises:
        VptError: an option out of its range, or an encoder with a block that is not opened.
    """

    name = "prefix"
    source = "Li and Liang, ACL 2021"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, num_tokens: int = 10) -> None:
        super().__init__(prefix=LearnedKeysValues(tower, self.name, count=num_tokens, std=0.02))
