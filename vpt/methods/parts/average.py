"""Averages of what is learned, over the epochs of its training."""

from __future__ import annotations

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.base import Part


class GaussianAverage(Part):
    """After the last epoch E the parameters become Σ w_e · (those after epoch e), w_e ∝ N(e; mean, std), Σ w_e = 1.

    Khattak et al., ICCV 2023, section 3.2.2.

    Args:
        of: the parts whose parameters are averaged, by name.
        mean: of the Gaussian over epochs, in epochs.
        std: its standard deviation, in epochs.

    Raises:
        VptError: a deviation that is not above 0.
    """

    averages_epochs = True

    def __init__(self, *, mean: float, std: float, **of: Part) -> None:
        super().__init__()
        if std <= 0:
            raise VptError(f"std={std} is no width of a Gaussian over epochs: give more than 0.")
        self.mean, self.std = mean, std
        # They are parts of their own, and not saved or counted with this one.
        self._of = (of,)
        for name, parameter in self._averaged().items():
            self.register_buffer(f"sum_{name}", torch.zeros_like(parameter.detach()))

    @torch.no_grad()
    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Add the parameters to the weighted sum; the last time, put the sum in their place."""
        exponents = [-0.5 * ((number - self.mean) / self.std) ** 2 for number in range(1, epochs + 1)]
        weight = torch.tensor(exponents, dtype=torch.float64).softmax(dim=0)[epoch - 1].item()
        for name, parameter in self._averaged().items():
            total = self.get_buffer(f"sum_{name}")
            # Training anew begins a new sum.
            total.mul_(epoch > 1).add_(parameter, alpha=weight)
            if epoch == epochs:
                parameter.copy_(total)

    def _averaged(self) -> dict[str, Tensor]:
        return {
            f"{name}_{inner.replace('.', '_')}": parameter
            for name, part in self._of[0].items()
            for inner, parameter in part.named_parameters()
        }
