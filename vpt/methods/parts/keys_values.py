"""Keys and values of attention that are learned as they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import KeysValues
from vpt.methods.parts.bottleneck import check_opened, check_share
from vpt.methods.parts.encoders import Encoder


class LearnedKeysValues(KeysValues):
    """New keys and values for the attention of every block, behind its projections.

    Args:
        encoder: the image encoder.
        name: of the method, for errors.
        count: M, how many a block.
        shared: one tensor is key and value.
        std: of a normal distribution that they begin as; None for Kaiming's uniform initialisation, whose fan-in is M
            times the size of a head.
        dropout: of their numbers.

    Attributes:
        values: (blocks, 2 or 1, M, heads, d), keys before values.

    Raises:
        VptError: an option out of its range, or an encoder with a block that is not opened.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        count: int,
        shared: bool = False,
        std: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if count < 1:
            raise VptError(f"{name} with {count} keys leaves nothing to learn: give 1 or more.")
        check_share(dropout=dropout)
        check_opened(encoder, name)
        self.enters = frozenset(range(encoder.depth))
        self.dropout = dropout
        heads, size, size_of_values = encoder.heads(0)
        if size != size_of_values:
            raise VptError(
                f"{name} learns keys and values of one size, and here they have {size} and {size_of_values} numbers: "
                "choose another backbone."
            )
        values = torch.empty(encoder.depth, 1 if shared else 2, count, heads, size)
        bound = (6 / (count * size)) ** 0.5
        self.values = nn.Parameter(values.uniform_(-bound, bound) if std is None else values.normal_(std=std))

    def keys_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of block `layer`, (1, M, heads, d) each."""
        keys, values = self.values[layer][0], self.values[layer][-1]
        dropped = [F.dropout(each, self.dropout, self.training) if self.dropout else each for each in (keys, values)]
        return dropped[0][None], dropped[1][None]

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, tuple[Tensor, Tensor]]:
        """All of them taken apart once, so that their gradients are put together once."""
        if self.training and self.dropout:
            return {}
        each, count = self.values.to(dtype).flatten(0, 1).split(1), self.values.shape[1]
        return {layer: (each[count * layer], each[count * (layer + 1) - 1]) for layer in range(len(self.values))}
