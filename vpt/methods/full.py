"""Full fine-tuning."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tuned import Everything


class Full(Method):
    """Trains every parameter of the backbone."""

    name = "full"
    source = "full fine-tuning"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        super().__init__(everything=Everything())
