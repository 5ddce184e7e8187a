"""Factor-Tuning (FacT), Jie and Deng, AAAI 2023, https://arxiv.org/abs/2212.03145."""

from __future__ import annotations

from typing import Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.factored import Factored


class FacT(Method):
    """Changes of all linear layers of all blocks are one tensor of low rank, in factors (section 3).

    FacT-TT is a tensor train U S Vᵀ with U and V of all blocks (equation 5), FacT-TK a Tucker decomposition (equation
    7). As in the code behind the paper's figures, FacT-TK reads the pieces of the MLP's layers as they lie in memory,
    in another order than its equation. For inference (`compile_prompts`) all is in the weights, and costs nothing.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        form: "tt" or "tk".
        rank: r; the paper takes at most 16 with "tt" and 32 with "tk", by the data set.
        scale: of what is added; the paper chooses among 0.01, 0.1, 1, 10 and 100 for each data set.
        dropout: of numbers between the factors.

    Raises:
        VptError: an option out of its range, or an encoder with a block that does not show its layers.
    """

    name = "fact"
    source = "Jie and Deng, AAAI 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        form: Literal["tt", "tk"] = "tt",
        rank: int = 16,
        scale: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(factors=Factored(tower, self.name, form=form, rank=rank, scale=scale, dropout=dropout))
