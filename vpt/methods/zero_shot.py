"""Zero-shot classification by prompt engineering, Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020."""

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder


class ZeroShot(Method):
    """Learns nothing: class names in hand-written templates are the classifier (section 3.1.4).

    The templates are the data set's, one or an ensemble of them.
    """

    name = "zero-shot"
    source = "Radford et al., ICML 2021"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder | None = None, text: TextEncoder | None = None) -> None:
        super().__init__()
