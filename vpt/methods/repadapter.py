"""RepAdapter, Luo et al., 2023, https://arxiv.org/abs/2302.08106."""

from __future__ import annotations

from typing import Any

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.grouped import Grouped


class RepAdapter(Method):
    """Linear adapters before attention and before the MLP of every block, which are merged with their weights.

    Section 3.3: normed tokens y become y + scale · (B dropout(A y + a) + b), with groups in B. For inference
    (`compile_prompts`) they are in the weights of what follows, and cost nothing.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        rank: rows of A.
        groups: of B.
        scale: of what is added; the paper chooses among 0.1, 0.5, 1, 5 and 10 for each data set.
        dropout: of what B is applied to.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "repadapter"
    source = "Luo et al., 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        rank: int = 8,
        groups: int = 2,
        scale: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        options: dict[str, Any] = {"rank": rank, "groups": groups, "scale": scale, "dropout": dropout}
        super().__init__(
            attention=Grouped(tower, self.name, before="attention", **options),
            mlp=Grouped(tower, self.name, before="mlp", **options),
        )
