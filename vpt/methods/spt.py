"""Self-Prompt Tuning (SPT), Wang et al., ICML 2024, https://arxiv.org/abs/2402.02382."""

from __future__ import annotations

from typing import Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tokens import Tokens


class SPT(Method):
    """Prompts as in VPT, which begin as what the frozen blocks are given of training images (section 3.3).

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P a block.
        deep: before every block (SPT-deep), or before the first only (SPT-shallow).
        init: prompts begin as "patches", drawn tokens; or as the "mean" or the "max" of as many clusters of them.
        dropout: of prompt values, a mask for each image.

    Raises:
        VptError: an option out of its range.
    """

    name = "spt"
    source = "Wang et al., ICML 2024"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 20,
        deep: bool = True,
        init: Literal["patches", "mean", "max"] = "patches",
        dropout: float = 0.0,
    ) -> None:
        layers = range(tower.depth) if deep else [0]
        super().__init__(prompts=Tokens(tower, layers, num_tokens=num_tokens, init=init, dropout=dropout))
