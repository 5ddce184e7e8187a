"""All that methods may know of encoders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn


class Encoder(Protocol):
    """The shape of an image tower, and its parameters: all that a method may know of it."""

    width: int
    depth: int
    num_features: int
    prefix: int
    patch_size: int
    channels: int
    classifier: tuple[Tensor, Tensor | None] | None
    image_size: tuple[int, int] | None

    def width_at(self, layer: int) -> int:
        """D of tokens before block `layer`."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters."""

    def modules(self) -> Iterable[nn.Module]:
        """All of its modules."""

    def heads(self, layer: int) -> tuple[int, int, int]:
        """Heads of block `layer`, which can be opened, and how many numbers a key and a value of one have."""

    def block(self, layer: int) -> nn.Module:
        """Block `layer`."""

    def why_unopened(self, layer: int) -> str | None:
        """Why nothing can be put into block `layer` or beside its parts, or None where it can."""

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to what block `layer` attends by, or None where it can."""

    def sizes(self, layer: int) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear stages of block `layer` that can be added to: "o", "up" and "down"."""

    def final_norm(self) -> nn.Module:
        """The norm after the last block."""

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """CLIP's norm before block 0."""

    def projection_weight(self) -> nn.Parameter | None:
        """The matrix of the last linear map to features, where there is one and nothing is added to it."""


class TextEncoder(Protocol):
    """The shape of a text tower, its parameters, and its words without positions."""

    width: int
    depth: int
    num_features: int
    causal: bool
    context_length: int

    @property
    def start(self) -> int:
        """Tokens before the first word."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters."""

    def modules(self) -> Iterable[nn.Module]:
        """All of its modules."""

    def why_unopened(self, layer: int) -> str | None:
        """Why nothing can be put into block `layer` or beside its parts, or None where it can."""

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to what block `layer` attends by, or None where it can."""

    def sizes(self, layer: int) -> dict[str, tuple[int, int]]:
        """As of an `Encoder`."""

    def tokenize(self, texts: Sequence[str], reserve: int = 0) -> Tensor:
        """Texts to ids (N, L - reserve)."""

    def words(self, ids: Tensor) -> Tensor:
        """Ids (N, L) to word embeddings (N, L, D)."""

    def lengths(self, ids: Tensor) -> Tensor:
        """Tokens up to the end token, which is counted, (N,)."""
