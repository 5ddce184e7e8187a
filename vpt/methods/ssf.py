"""Scaling and Shifting your Features (SSF), Lian et al., NeurIPS 2022, https://arxiv.org/abs/2210.08823."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.scale_shift import EndsScaleShift, ScaleShift


class SSF(Method):
    """Scale ⊙ h + shift behind every operation of the encoder (section 3.2, equation 2).

    Behind the patch embedding, every norm, and every linear layer of attention and MLP. For inference
    (`compile_prompts`) they are in the weights of these operations, and cost nothing (equation 3).

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.

    Raises:
        VptError: an encoder with a block that does not show its layers.
    """

    name = "ssf"
    source = "Lian et al., NeurIPS 2022"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(blocks=ScaleShift(tower, self.name), ends=EndsScaleShift(tower, self.name))
