"""Convpass, Jie and Deng, 2022, https://arxiv.org/abs/2207.07039."""

from __future__ import annotations

from typing import Any, Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.convolution import Convolution


class Convpass(Method):
    """Bottlenecks with a convolution over the patches, beside attention and the MLP of every block (section 3.2).

    The class token goes through the same convolution as an image of one patch; so do register tokens, and prompts of
    methods that stand beside it, of which the paper has none.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        rank: channels of the convolution.
        scale: of what is added; the paper chooses among 0.01, 0.1, 1, 10 and 100 for each data set.
        dropout: of what goes back to the width of the backbone.
        init: of the convolution, "identity" or "xavier"; the paper's code has both, and takes the latter by data set.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "convpass"
    source = "Jie and Deng, 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        rank: int = 8,
        scale: float = 1.0,
        dropout: float = 0.1,
        init: Literal["identity", "xavier"] = "identity",
    ) -> None:
        options: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": dropout, "init": init}
        super().__init__(
            attention=Convolution(tower, self.name, beside="attention", **options),
            mlp=Convolution(tower, self.name, beside="mlp", **options),
        )
