"""What a method of adaptation is to the model that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn


class Encoder(Protocol):
    """The shape of a tower, and its parameters: all that a method may know of it."""

    width: int
    depth: int
    prefix: int
    patch_size: int

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters."""

    def block(self, layer: int) -> nn.Module:
        """Block `layer`."""

    def final_norm(self) -> nn.Module:
        """The norm after the last block."""


class Method(nn.Module):
    """What is learned beside the head. This base learns nothing.

    A subclass with a `name` is a method that users can ask for; the keyword-only arguments of its
    constructor are its options.

    Attributes:
        name: as published, lower case with hyphens.
        source: the paper, for tables and cards.
        enters: the blocks before which new prompts enter, in place of those that were there.
        needs_images: `initialise` must be called with tokens of training images before the first step.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    enters: frozenset[int] = frozenset()
    needs_images: bool = False

    def __init__(self, tower: Encoder) -> None:
        super().__init__()

    def prompts(self, layer: int, batch: int) -> Tensor | None:
        """The prompts that enter before block `layer`, (1 or batch, P, D); None where none do."""
        return None

    def plain(self, layer: int, x: Tensor) -> Tensor:
        """The definition: the whole sequence (B, N, D) that block `layer` is given, prompts included."""
        return x

    def strip(self, x: Tensor) -> Tensor:
        """The sequence of the plain form after the last block, without its prompts."""
        return x

    def tuned(self, tower: Encoder) -> Iterable[nn.Parameter]:
        """The parameters of the backbone itself that are trained."""
        return ()

    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Set prompts from what each block of the frozen backbone is given, (B, N, D) a block."""
