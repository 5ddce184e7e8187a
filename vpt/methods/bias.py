"""BitFit, Ben Zaken et al., ACL 2022, https://arxiv.org/abs/2106.10199."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tuned import Biases


class Bias(Method):
    """Trains every bias of the backbone, those of its norms and of its patch embedding included."""

    name = "bias"
    source = "Ben Zaken et al., ACL 2022"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(biases=Biases())
