"""Networks behind the encoders, whose output is mixed with the features that they are given."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vpt.methods.parts.classifier import Classifier
from vpt.normalised import normalised


class Mixed(nn.Module):
    """ratio · ReLU(W2 ReLU(W1 f)) + (1 - ratio) · f, L2-normalised, of L2-normalised features f (…, F).

    Without biases the network commutes with lengths: it makes no difference that features are normalised before it.

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

    def forward(self, features: Tensor) -> Tensor:
        """As many, in the precision that they came in."""
        given = features.to(self.down.weight.dtype)
        adapted = F.relu(self.up(F.relu(self.down(given))))
        return normalised(self.ratio * adapted + (1 - self.ratio) * given).to(features.dtype)


class MixedFeatures(Classifier):
    """Similarities of mixed features with others.

    Args:
        image: behind the image encoder; None leaves its features as they are.
        text: behind the text encoder, likewise.
    """

    def __init__(self, *, image: Mixed | None = None, text: Mixed | None = None) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def compared(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed features, L2-normalised."""
        return image if self.image is None else self.image(image), text if self.text is None else self.text(text)
