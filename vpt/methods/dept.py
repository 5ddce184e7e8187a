"""Decoupled Prompt Tuning (DePT), Zhang et al., CVPR 2024, https://arxiv.org/abs/2309.07439."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.decoupled import Decoupled, DecoupledLoss


class DePT(Method):
    """A head of the base classes beside the similarities of a prompt method, which it is combined with.

    `method: [kgcoop, dept]` is DePT on KgCoOp, as its figures are on each method; by itself it learns nothing but the
    head. A scale and a shift of each feature, one pair for images and one for texts, lead from features as the encoders
    make them to those of the head, a linear layer whose examples are images and the texts of their classes (section
    3.2). Loss and logits are (1 - weight) times those of similarities and weight times those of the head; other classes
    than those of training have similarities alone. What it learns has the learning rate of heads, `train.head_lr`.

    Args:
        tower: the image encoder.
        text: the text encoder.
        weight: of the head, in the loss and of the logits.

    Raises:
        VptError: a weight that is no share.
    """

    name = "dept"
    source = "Zhang et al., CVPR 2024"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, weight: float = 0.7) -> None:
        if not 0 < weight < 1:
            raise VptError(f"weight={weight} must lie between 0 (no head) and 1 (no similarities).")
        decoupled = Decoupled(tower.num_features, self.name, weight)
        super().__init__(decoupled=decoupled, loss_of_head=DecoupledLoss(decoupled))
