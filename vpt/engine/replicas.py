"""Processes that train the same model, each with passes of its own that know nothing of the others.

What a GPU replays exchanges nothing with other processes. Their models begin alike, and the mean of their gradients is
taken behind the passes, in one exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from vpt.model import Prompted


@torch.no_grad()
def make_alike(model: Prompted) -> None:
    """Give what is trained, and buffers beside it, the values that they have in the first process."""
    for tensor in model.tuned_state().values():
        if tensor.numel():
            tensor.copy_(broadcast(tensor.clone()))


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Replace the gradients of `parameters` by their means over all processes; those without one stay so."""
    by_kind: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_kind.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_kind.values():
        mean: Tensor = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
