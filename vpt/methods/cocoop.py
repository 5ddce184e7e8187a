"""Conditional Context Optimization (CoCoOp), Zhou et al., CVPR 2022, https://arxiv.org/abs/2203.05557."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpt.methods.base import Encoder, TextEncoder
from vpt.methods.coop import LearnedContext

REDUCTION = 16


class CoCoOp(LearnedContext):
    """Unified context, each token of which is moved by one vector that a small network makes of the image.

    v_m(x) = v_m + h(x), where h is Linear-ReLU-Linear with a sixteenth of the features between them, on
    L2-normalised image features (section 3.2). All images of a batch go through the text encoder together.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has.
    """

    name = "cocoop"
    source = "Zhou et al., CVPR 2022"
    conditional = True

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, **context: Any) -> None:
        super().__init__(tower, text, **context)
        hidden = max(1, tower.num_features // REDUCTION)
        self.meta_net = nn.Sequential(
            nn.Linear(tower.num_features, hidden), nn.ReLU(), nn.Linear(hidden, self.values.shape[-1])
        )

    def context(self, features: Tensor | None) -> Tensor:
        """Of images (B, F), (B, n, D); without them what all images share, (1, n, D)."""
        if features is None:
            return self.values
        # Features that were computed in half precision meet a network in full.
        return self.values + self.meta_net(features.to(self.values.dtype))[:, None]

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """The texts of one image after another."""
        assert features is not None
        parts = [super(CoCoOp, self).plain_sequences(text, ids, row[None]) for row in features]
        return torch.cat([rows for rows, _ in parts]), torch.cat([lengths for _, lengths in parts])
