"""Gradients that take no step against what the frozen model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.objective import Around, Objective
from vpt.methods.parts.outputs import Outputs
from vpt.precision import full_precision


class NoConflict(Objective):
    """Takes from the gradient G_d of the loss what lies against G_g, that of the divergence from the zero-shot model.

    Where the two conflict (G_d · G_g < 0), what of G_d lies along G_g is taken away, `lambd` times; elsewhere G_d is
    left as it is (Zhu et al., ICCV 2023, equation 4).

    Args:
        lambd: λ; with 0 the gradient is left as it is.

    Raises:
        VptError: λ out of its range.
    """

    claims = frozenset({"gradient"})

    def __init__(self, lambd: float) -> None:
        super().__init__()
        if not 0 <= lambd <= 1:
            raise VptError(f"lambd={lambd} must lie between 0 (no correction) and 1 (nothing left of the conflict).")
        self.lambd = lambd
        # G_g of the batches of a step so far.
        self._guides: list[Tensor] = []

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """The loss as it is, whose backward pass gives the corrected gradient, but where `correct` does later."""
        if not (torch.is_grad_enabled() and so_far.requires_grad and around.learned):
            return so_far
        guide = torch.autograd.grad(_divergence(outputs), around.learned, retain_graph=True)
        if around.share is not None:
            # In place, so that a captured step adds to the same tensors.
            if not self._guides or self._guides[0].device != guide[0].device:
                self._guides = [torch.zeros_like(part) for part in guide]
            for total, part in zip(self._guides, guide, strict=True):
                total.add_(part, alpha=around.share)
            return so_far
        down = torch.autograd.grad(so_far, around.learned)
        # A scale that is trained too is no matter of prompts: its gradient is the cross entropy's.
        logits = similarities(outputs.image.detach(), outputs.text.detach(), outputs.scale)
        surrogate = around.entropy(logits)
        for parameter, *pair in zip(around.learned, down, guide, strict=True):
            product = (parameter * self._corrected(*pair)).sum()
            surrogate = surrogate + product - product.detach()
        return so_far.detach() + surrogate - surrogate.detach()

    def correct(self, learned: Sequence[nn.Parameter], mean: Callable[[Tensor], Tensor]) -> None:
        """Take from the gradient of a whole step what lies against the templates."""
        for parameter, guide in zip(learned, self._guides, strict=False):
            if parameter.grad is not None:
                parameter.grad.copy_(self._corrected(parameter.grad, mean(guide)))
            guide.zero_()

    def _corrected(self, down: Tensor, guide: Tensor) -> Tensor:
        """G_prograd of one tensor."""
        along = F.normalize(guide.flatten(), dim=0)
        conflict = (down.flatten() @ along).clamp(max=0)
        return down - self.lambd * conflict * along.view_as(down)


def _divergence(outputs: Outputs) -> Tensor:
    """Cross entropy of the logits to the zero-shot probabilities, whose gradient is the divergence's."""
    assert outputs.frozen_image is not None
    assert outputs.frozen_text is not None
    zero_shot = full_precision((outputs.scale * outputs.frozen_image @ outputs.frozen_text.T).detach())
    return F.cross_entropy(full_precision(outputs.logits), zero_shot.softmax(dim=-1))
