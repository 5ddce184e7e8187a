"""Knowledge-guided Context Optimization (KgCoOp), Yao et al., CVPR 2023, https://arxiv.org/abs/2303.13283."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vpt.errors import VptError
from vpt.methods.base import Encoder, Outputs, TextEncoder
from vpt.methods.coop import LearnedContext
from vpt.precision import full_precision


class KgCoOp(LearnedContext):
    """CoOp whose class features are held near those of the hand-written templates.

    Loss: cross entropy + weight · (1 - mean over classes of cos(t, t_template)), as in the paper's code; up to a
    factor of 2 the squared distance of equation 4.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has.
        weight: of the second term, λ in equation 5.
    """

    name = "kgcoop"
    source = "Yao et al., CVPR 2023"
    needs_frozen = True

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, weight: float = 8.0, **context: Any) -> None:
        super().__init__(tower, text, **context)
        if weight < 0:
            raise VptError(f"weight={weight} would drive class features from the templates': give 0 or more.")
        self.weight = weight

    def loss(self, outputs: Outputs, labels: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy and distance."""
        assert outputs.frozen_text is not None
        distance = 1 - full_precision((outputs.text * outputs.frozen_text).sum(dim=-1)).mean()
        return super().loss(outputs, labels, label_smoothing) + self.weight * distance
