"""Parameters of the backbone itself that are trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from vpt.errors import VptError
from vpt.methods.parts.base import Tuned
from vpt.methods.parts.encoders import Encoder, TextEncoder


class Everything(Tuned):
    """Every parameter."""

    claims = frozenset({"weights of the backbone", "biases of the backbone", "projection of the image encoder"})

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """All of them."""
        return [parameter for _, parameter in _named(tower, text)]


class Biases(Tuned):
    """Every bias, those of the norms and of the patch embedding included."""

    claims = frozenset({"biases of the backbone"})

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """Parameters whose name ends in "bias"."""
        return [parameter for name, parameter in _named(tower, text) if name.endswith("bias")]


class Norms(Tuned):
    """The weights and biases of every norm."""

    claims = frozenset({"weights of the backbone", "biases of the backbone"})

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """Parameters of modules whose class is called a norm: layer norms, RMS norms, batch norms, group norms."""
        towers: list[Encoder | TextEncoder] = [tower] if text is None else [tower, text]
        modules = [
            module for encoder in towers for module in encoder.modules() if "norm" in type(module).__name__.lower()
        ]
        return {parameter: None for module in modules for parameter in module.parameters(recurse=False)}


class Projection(Tuned):
    """The matrix of the last linear map of the image encoder, behind which features are compared with those of texts.

    Args:
        tower: the image encoder.
        name: of the method, for errors.

    Raises:
        VptError: it has none, or does more than multiply by it.
    """

    claims = frozenset({"projection of the image encoder"})

    def __init__(self, tower: Encoder, name: str) -> None:
        super().__init__()
        if tower.projection_weight() is None:
            raise VptError(f"{name} trains the projection of the image encoder, and this one has no such matrix.")

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """The matrix."""
        weight = tower.projection_weight()
        return [] if weight is None else [weight]


class LastBlocks(Tuned):
    """The last blocks of the image encoder and the norm after them.

    Args:
        tower: the image encoder.
        k: how many blocks.

    Raises:
        VptError: it has not so many.
    """

    claims = frozenset({"weights of the backbone", "biases of the backbone"})

    def __init__(self, tower: Encoder, k: int) -> None:
        super().__init__()
        if not 1 <= k <= tower.depth:
            raise VptError(f"k={k}: the backbone has 1 to {tower.depth} blocks to fine-tune.")
        self.k = k

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """The parameters of those blocks, and of the final norm."""
        blocks = [tower.block(layer) for layer in range(tower.depth - self.k, tower.depth)]
        return [parameter for part in (*blocks, tower.final_norm()) for parameter in part.parameters()]


def _named(tower: Encoder, text: TextEncoder | None) -> Iterable[tuple[str, nn.Parameter]]:
    towers: list[Encoder | TextEncoder] = [tower] if text is None else [tower, text]
    return [pair for encoder in towers for pair in encoder.named_parameters()]
