"""Adapter+, Steitz and Roth, CVPR 2024, https://arxiv.org/abs/2406.06820."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.bottleneck import Bottleneck


class AdapterPlus(Method):
    """Behind every block an adapter with a learned scale s of each channel: x + s ⊙ up(GELU(down(x))).

    Section 3: of the places, the one behind the whole block ("post"), without a norm; s is 1 at first, the matrices
    N(0, 0.01), cut off at ± 0.02. The paper drops paths of the backbone too, with the same share, which is not done
    where the backbone stays in evaluation mode.

    Args:
        tower: the image encoder.
        text: the text encoder, which is left as it is.
        rank: numbers between down and up.
        drop_path: share of the images to which a block's adapter adds nothing, in training.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "adapter+"
    source = "Steitz and Roth, CVPR 2024"

    def __init__(
        self, tower: Encoder, text: TextEncoder | None = None, *, rank: int = 8, drop_path: float = 0.1
    ) -> None:
        behind = Bottleneck(tower, self.name, place="block", rank=rank, scale=None, drop_path=drop_path, init="normal")
        super().__init__(behind=behind)
