"""Partial-k, the baseline of Jia et al., ECCV 2022, section 4.1: the last k blocks are fine-tuned."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tuned import LastBlocks


class Partial(Method):
    """Trains the last `k` blocks and the norm after them.

    Args:
        tower: the image encoder, whose blocks are trained; of one that is not opened its residual blocks.
        text: the text encoder, which is left as it is.
        k: how many.

    Raises:
        VptError: there are not so many blocks.
    """

    name = "partial-k"
    source = "Jia et al., ECCV 2022"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, k: int = 1) -> None:
        super().__init__(blocks=LastBlocks(tower, k))
