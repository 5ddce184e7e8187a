"""Networks behind the frozen image encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vpt.methods.parts.classifier import Classifier, similarities


class MixedFeatures(Classifier):
    """Similarities of ratio · ReLU(W2 ReLU(W1 f)) + (1 - ratio) · f, L2-normalised, with the features of the classes.

    Args:
        num_features: F.
        hidden: rows of W1.
        ratio: share of what the network computes.
    """

    def __init__(self, num_features: int, hidden: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(num_features, hidden, bias=False)
        self.up = nn.Linear(hidden, num_features, bias=False)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Similarities of mixed image features (B, F) with those of the classes (C, F), (B, C)."""
        # Without biases the network commutes with lengths, so that features may be normalised before it as well.
        features = image.to(self.down.weight.dtype)
        adapted = F.relu(self.up(F.relu(self.down(features))))
        mixed = F.normalize(self.ratio * adapted + (1 - self.ratio) * features, dim=-1)
        return similarities(mixed.to(text.dtype), text, scale)
