"""BitFit, Ben Zaken et al., ACL 2022, https://arxiv.org/abs/2106.10199."""

from collections.abc import Iterable

from torch import nn

from vpt.methods.base import Encoder, Method, TextEncoder


class Bias(Method):
    """Trains every bias of the backbone, those of its norms and of its patch embedding included."""

    name = "bias"
    source = "Ben Zaken et al., ACL 2022"

    def tuned(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """Parameters whose name ends in "bias"."""
        towers: list[Encoder | TextEncoder] = [tower] if text is None else [tower, text]
        return [p for encoder in towers for name, p in encoder.named_parameters() if name.endswith("bias")]
