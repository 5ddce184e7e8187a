"""E²VPT, Han et al., ICCV 2023, https://arxiv.org/abs/2307.13770."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.keys_values import LearnedKeysValues
from vpt.methods.parts.tokens import Tokens


class E2VPT(Method):
    """Prompts before every block, as in VPT-deep, and new keys and values in its attention (section 3.2).

    As in the code, one tensor is key and value, behind the projections and without a norm. Prompts are not pruned: the
    commands that the authors publish for VTAB-1k prune none, and set the numbers of prompts for each data set.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        num_tokens: prompts a block.
        num_keys: keys, and values, a block.
        shared: one tensor is key and value.
        dropout: of prompts, and of keys and values.

    Raises:
        VptError: an option out of its range, or an encoder with a block that is not opened.
    """

    name = "e2vpt"
    source = "Han et al., ICCV 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 10,
        num_keys: int = 5,
        shared: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            prompts=Tokens(tower, range(tower.depth), num_tokens=num_tokens, dropout=dropout),
            keys=LearnedKeysValues(tower, self.name, count=num_keys, shared=shared, dropout=dropout),
        )
