"""AdaptFormer, Chen et al., NeurIPS 2022, https://arxiv.org/abs/2205.13535."""

from __future__ import annotations

import torch.nn.functional as F

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.bottleneck import Bottleneck


class AdaptFormer(Method):
    """Beside the MLP of every block a narrow one: x + mlp(norm(x)) + scale · up(ReLU(down(x))) (equations 2 and 3).

    As in the code behind the paper's figures, the narrow MLP is given x before the norm, where the paper's figure has
    it behind. At first `up` is zero.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        rank: numbers between down and up; the paper takes 64, tables of VTAB-1k 8.
        scale: of what is added.
        dropout: of what `up` is applied to.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "adaptformer"
    source = "Chen et al., NeurIPS 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        rank: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        beside = Bottleneck(tower, self.name, place="beside mlp", rank=rank, act=F.relu, scale=scale, dropout=dropout)
        super().__init__(beside=beside)
