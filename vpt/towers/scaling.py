"""What a block adds to its tokens, multiplied by a scale of each channel (Touvron et al., ICCV 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scaled(scale: Tensor | None, x: Tensor) -> Tensor:
    """scale · x, or `x` where there is no scale."""
    return x if scale is None else scale * x


def added(x: Tensor, found: Tensor, scale: Tensor | None) -> Tensor:
    """x + scale · found, in one operation where the scale is frozen; x + found without a scale."""
    if scale is None or scale.requires_grad or torch.compiler.is_compiling():
        return x + scaled(scale, found)
    if not torch.is_grad_enabled():
        return torch.addcmul(x, found, scale)
    together: Tensor = _Added.apply(x, found, scale)
    return together


class _Added(torch.autograd.Function):
    """`torch.addcmul` of a frozen scale; torch's own gradient of that multiplies twice."""

    @staticmethod
    def forward(x: Tensor, found: Tensor, scale: Tensor) -> Tensor:
        return torch.addcmul(x, found, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        (scale,) = ctx.saved_tensors
        return gradient, gradient * scale if ctx.needs_input_grad[1] else None, None
