"""Prompts of which some enter as their Fourier transform."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.encoders import Encoder
from vpt.methods.parts.tokens import Tokens
from vpt.precision import full_precision


class Fourier(Tokens):
    """Of the prompts of each block the first enter as Re F(F(p)), F over channels and then over these prompts.

    Neither transform is normalised.

    Args:
        tower: the encoder that is prompted.
        layers: the blocks before which prompts enter.
        share: of the prompts, rounded down to whole ones.
        options: of `Tokens`.

    Raises:
        VptError: no share from 0 to 1, or an option out of its range.
    """

    def __init__(self, tower: Encoder, layers: Sequence[int], *, share: float, **options: Any) -> None:
        super().__init__(tower, layers, **options)
        if not 0 <= share <= 1:
            raise VptError(f"share={share} of the prompts must lie between 0 and 1.")
        self.transformed = math.floor(share * self.count())

    def prompts(self, layer: int, batch: int) -> Tensor:
        """P_layer, (1 or batch, P, D), those that are transformed before the others."""
        return self._transformed(super().prompts(layer, batch))

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, Tensor]:
        """All of them, transformed at once."""
        return super().for_blocks(dtype)

    def _every(self, values: Tensor) -> Tensor:
        return self._transformed(super()._every(values))

    def _transformed(self, prompts: Tensor) -> Tensor:
        """(…, P, D), the first of them transformed."""
        if not self.transformed:
            return prompts
        first = full_precision(prompts[:, : self.transformed])
        transformed = torch.fft.fft2(first).real.to(prompts.dtype)
        return torch.cat([transformed, prompts[:, self.transformed :]], dim=1)
