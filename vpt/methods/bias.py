"""BitFit, Ben Zaken et al., ACL 2022, https://arxiv.org/abs/2106.10199."""

from collections.abc import Iterable

from torch import nn

from vpt.methods.base import Encoder, Method


class Bias(Method):
    """Trains every bias of the backbone, those of its norms and of its patch embedding included."""

    name = "bias"
    source = "Ben Zaken et al., ACL 2022"

    def tuned(self, tower: Encoder) -> Iterable[nn.Parameter]:
        """Parameters whose name ends in "bias"."""
        return [parameter for name, parameter in tower.named_parameters() if name.endswith("bias")]
