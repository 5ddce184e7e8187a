"""LayerNorm tuning, Basu et al., AAAI 2024, https://arxiv.org/abs/2304.01917."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tuned import Norms


class Norm(Method):
    """Trains the scales and shifts of every norm of the backbone."""

    name = "norm"
    source = "Basu et al., AAAI 2024"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(norms=Norms())
