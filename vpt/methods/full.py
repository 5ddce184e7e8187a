"""Full fine-tuning."""

from collections.abc import Iterable

from torch import nn

from vpt.methods.base import Encoder, Method, TextEncoder


class Full(Method):
    """Trains every parameter of the backbone."""

    name = "full"
    source = "full fine-tuning"

    def tuned(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """All of them."""
        towers: list[Encoder | TextEncoder] = [tower] if text is None else [tower, text]
        return [parameter for encoder in towers for _, parameter in encoder.named_parameters()]
