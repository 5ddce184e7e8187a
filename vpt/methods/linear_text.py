"""A linear probe that starts from text features: the language-augmented adaptation of Li et al., "ELEVATER".

NeurIPS 2022 (Datasets and Benchmarks), https://arxiv.org/abs/2204.08790.
"""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.rows import Rows


class LinearText(Method):
    """A weight for each class, which is its text feature at first: logits are scale · f · Wᵀ, (B, C)."""

    name = "linear-text"
    source = "Li et al., NeurIPS 2022"
    head = "text"
    heads = ("text",)
    renamed = (("weight", "rows.weight"),)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(rows=Rows(tower.num_features, self.name))
