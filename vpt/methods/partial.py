"""Partial-k, the baseline of Jia et al., ECCV 2022, section 4.1: the last k blocks are fine-tuned."""

from collections.abc import Iterable

from torch import nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder


class Partial(Method):
    """Trains the last `k` blocks and the norm after them."""

    name = "partial-k"
    source = "Jia et al., ECCV 2022"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, k: int = 1) -> None:
        super().__init__(tower)
        if not 1 <= k <= tower.depth:
            raise VptError(f"k={k}: the backbone has 1 to {tower.depth} blocks to fine-tune.")
        self.k = k

    def tuned(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """The parameters of those blocks, and of the final norm."""
        blocks = [tower.block(layer) for layer in range(tower.depth - self.k, tower.depth)]
        return [parameter for part in (*blocks, tower.final_norm()) for parameter in part.parameters()]
