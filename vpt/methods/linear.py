"""Linear probe: the head alone, on frozen features."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder


class Linear(Method):
    """Trains nothing but the head."""

    name = "linear"
    source = "linear probe"
    heads = ("linear",)

    def __init__(self, tower: Encoder | None = None, text: TextEncoder | None = None) -> None:
        super().__init__()
