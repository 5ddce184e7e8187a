"""Partial-k, the baseline of Jia et al., ECCV 2022, section 4.1: the last k blocks are fine-tuned."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tuned import LastBlocks


class Partial(Method):
    """Trains the last `k` blocks and the norm after them."""

    name = "partial-k"
    source = "Jia et al., ECCV 2022"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, k: int = 1) -> None:
        super().__init__(blocks=LastBlocks(tower, k))
