"""A linear probe blended with text features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.objective import Around, Objective
from vpt.methods.parts.outputs import Outputs
from vpt.methods.parts.rows import OfTrained


class Blended(OfTrained):
    """f · w_c + b_c + alpha_c f · t_c; see `vpt.methods.lp_plus_plus.LPPlusPlus`.

    What is trained is w and b divided by the root of their learning rate: a step of 1 then is theirs. Until `prepare`
    has seen the training images the logits are those of the class names alone.

    Args:
        num_features: of a feature, d.
        name: of the method, for errors.

    Attributes:
        weight: w / √rate, (C, d).
        bias: b / √rate, (C,).
        alpha: (C,).
        rate: learning rate of w and b, a scalar.
        alpha_rate: that of alpha.
        total: sum of alpha's gradients so far, (C,).
        count: of them.
    """

    needs_features = True

    rate: Tensor
    alpha_rate: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, num_features: int, name: str) -> None:
        super().__init__(name)
        self.weight = nn.Parameter(torch.empty(0, num_features))
        self.bias = nn.Parameter(torch.empty(0))
        self.alpha = nn.Parameter(torch.empty(0))
        for rate in ("rate", "alpha_rate"):
            self.register_buffer(rate, torch.ones(()))
        self.register_buffer("total", torch.empty(0))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """What images say, and what class names do."""
        if not len(self.weight):
            if self.training:
                raise VptError(f"{self.name} has no weights to train yet: call prepare before the first step.")
            return similarities(image, text, scale)
        image = image.to(self.weight.dtype)
        weight = self.chosen(self.weight, text.new_zeros(text.shape))
        bias = self.chosen(self.bias, text.new_zeros(len(text)))
        alpha = self.chosen(self.alpha, self.alpha.mean().expand(len(text)))
        return self.rate.sqrt() * (image @ weight.T + bias) + alpha * (image @ text.to(image.dtype).T)

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Where weights, biases and alpha begin, and their learning rates."""
        sizes = labels.bincount(minlength=len(text)).clamp(min=1)
        sums = image.new_zeros(text.shape).index_add(0, labels, image)
        found = image @ text.T
        self.rate.copy_(4 * len(image) / torch.linalg.eigvalsh((image.T @ image).cpu())[-1])
        self.alpha_rate.copy_(len(image) / (4 * found.square().sum(0).max()))
        root = self.rate.sqrt()
        self.weight.data = sums.to(self.weight) / root
        self.bias.data = torch.empty_like(self.weight[:, 0]).uniform_(-1, 1) / math.sqrt(text.shape[1]) / root
        means = sums / sizes[:, None] @ text.T
        self.alpha.data = (250 * means.mean()).to(self.weight).expand(len(text)).clone()
        self.total.data = torch.zeros_like(self.alpha)
        self.count.zero_()

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many as there were classes."""
        count = len(state["weight"])
        for part in (self.weight, self.bias, self.alpha, self.total):
            part.data = part.new_empty(count, *part.shape[1:])


class BlendedSteps(Objective):
    """Steps of alpha: every few steps, against the sum of its gradients so far.

    Args:
        probe: whose alpha it is.
        every: steps of what else is learned.
    """

    wants_frozen = False

    def __init__(self, probe: Blended, *, every: int) -> None:
        super().__init__()
        self.every = every
        # It is a part of its own.
        self._probe = (probe,)

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """The loss as it is."""
        return so_far

    @torch.no_grad()
    def correct(self, learned: Sequence[nn.Parameter], mean: Callable[[Tensor], Tensor]) -> None:
        """Take alpha's gradient, of which the optimizer sees nothing, and step where a step is due."""
        (probe,) = self._probe
        if probe.alpha.grad is None:
            return
        probe.total.add_(probe.alpha.grad)
        probe.alpha.grad.zero_()
        probe.count.add_(1)
        due = probe.count % self.every == 0
        probe.alpha.sub_(due * probe.alpha_rate * probe.total)
