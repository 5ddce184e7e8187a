"""CLass-Adaptive linear Probe (CLAP), Silva-Rodríguez et al., CVPR 2024, https://arxiv.org/abs/2312.12730."""

from __future__ import annotations

import torch
from torch import Tensor

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Objective, Outputs, TextEncoder
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.rows import Rows
from vpt.normalised import normalised


class CLAP(Method):
    """A linear probe that starts from text features, and stays near those of classes that zero-shot knows well.

    Loss: cross entropy + mean over classes of λ_c |w_c - t_c|², with λ_c the mean probability that zero-shot gives the
    right class of c's training images (section 4.2, and the mean of its code). Weights are L2-normalised where they are
    used; they begin as the text features as the encoder makes them, whose lengths say how much the penalty weighs.
    Other classes than those of training are judged by their texts.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
    """

    name = "clap"
    source = "Silva-Rodríguez et al., CVPR 2024"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        rows = AnchoredRows(tower.num_features, self.name)
        super().__init__(rows=rows, near=NearAnchors(rows))


class AnchoredRows(Rows):
    """Weights that know what they began as, and how well that did.

    Attributes:
        anchors: text features of the classes, (C, F).
        penalties: λ, (C,).
    """

    all_views = True

    anchors: Tensor
    penalties: Tensor

    def __init__(self, num_features: int, name: str) -> None:
        super().__init__(num_features, name, cosine=True)
        self.register_buffer("anchors", torch.empty(0, num_features), persistent=False)
        self.register_buffer("penalties", torch.empty(0), persistent=False)

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Weights become text features; λ_c the mean probability of class c of its images, 0 without any."""
        super().prepare(image, labels, text, scale)
        right = similarities(image, normalised(text), scale).softmax(-1).gather(1, labels[:, None])[:, 0]
        total = right.new_zeros(len(text)).index_add(0, labels, right)
        self.anchors = self.weight.detach().clone()
        self.penalties = (total / labels.bincount(minlength=len(text)).clamp(min=1)).to(self.weight)


class NearAnchors(Objective):
    """The mean over classes of λ_c |w_c - t_c|².

    Args:
        rows: whose weights they are.
    """

    wants_frozen = False

    def __init__(self, rows: AnchoredRows) -> None:
        super().__init__()
        # They are a part of their own.
        self._rows = (rows,)

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The penalty."""
        (rows,) = self._rows
        return (rows.penalties * (rows.weight - rows.anchors).square().sum(-1)).mean()
