"""Ladder Side-Tuning (LST), Sung et al., NeurIPS 2022, https://arxiv.org/abs/2206.06522."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.side import Ladder


class LST(Method):
    """A small transformer beside the image encoder, which is run without keeping anything for a backward pass.

    Section 3.1: it has a block beside each block of the encoder, is given what that block gives, made narrow, by a
    gate, and what it gives itself goes through the encoder's last norm and pooling. The paper's figures begin with
    weights that are pruned from the encoder's own, and do not add the encoder's tokens (`residual=False`). Here the
    side network begins at random, and adds nothing to the encoder's tokens at first.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        reduction: the encoder's width divided by the side network's.
        temperature: of the gates.
        residual: add what the side network gives to the encoder's own tokens.

    Raises:
        VptError: a width that `reduction` does not divide.
    """

    name = "lst"
    source = "Sung et al., NeurIPS 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        reduction: int = 8,
        temperature: float = 0.1,
        residual: bool = True,
    ) -> None:
        super().__init__(side=Ladder(tower, reduction=reduction, temperature=temperature, residual=residual))
