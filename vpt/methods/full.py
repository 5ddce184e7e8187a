"""Full fine-tuning."""

from collections.abc import Iterable

from torch import nn

from vpt.methods.base import Encoder, Method


class Full(Method):
    """Trains every parameter of the backbone."""

    name = "full"
    source = "full fine-tuning"

    def tuned(self, tower: Encoder) -> Iterable[nn.Parameter]:
        """All of them."""
        return [parameter for _, parameter in tower.named_parameters()]
