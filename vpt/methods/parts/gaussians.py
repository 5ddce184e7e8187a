"""Gaussians of image features, one for each class, as classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.rows import OfTrained

# What the text of a class that was not trained counts for in its mean.
SHARE = 0.2


class Gaussians(OfTrained):
    """scale · f · Wᵀ + alpha · (f · Σ⁻¹ μ_c - μ_cᵀ Σ⁻¹ μ_c / 2); see `vpt.methods.gda.GDA`.

    Until `prepare` has seen the training images the logits are those of the class names alone.

    Args:
        num_features: of a feature, d.
        name: of the method, for errors.
        alpha: weight of what images say.
        grid: weights to be tried.
        inverse: of the covariance, "shrunk" or "pseudo".
        neighbours: training images of which the Gaussian of a class that was not trained is made.

    Attributes:
        weight: Σ⁻¹ μ_c, (C, d).
        bias: - μ_cᵀ Σ⁻¹ μ_c / 2, (C,).
        seen: features of training images, (N, d), where there are to be `neighbours`.
        alpha: as it was given or found by `search`, a scalar.
    """

    needs_features = True
    all_views = True

    weight: Tensor
    bias: Tensor
    seen: Tensor
    alpha: Tensor

    def __init__(
        self,
        num_features: int,
        name: str,
        *,
        alpha: float,
        grid: Sequence[float],
        inverse: Literal["shrunk", "pseudo"],
        neighbours: int,
    ) -> None:
        super().__init__(name)
        if min([alpha, *grid]) < 0:
            raise VptError(f"alpha={min([alpha, *grid])} would turn images against themselves: give 0 or more.")
        if neighbours < 0:
            raise VptError(f"neighbours={neighbours}: give how many training images, or 0 for texts alone.")
        self.grid, self.inverse, self.neighbours = tuple(grid), inverse, neighbours
        self.searches = bool(grid)
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("weight", torch.empty(0, num_features))
        self.register_buffer("bias", torch.empty(0))
        self.register_buffer("seen", torch.empty(0, num_features))
        # Of the texts that they were made for, which stay the same while classes do.
        self._others: tuple[Tensor, Tensor, Tensor] | None = None

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """What class names say, and what Gaussians do."""
        known = similarities(image, text, scale)
        return known + self.alpha * self._said(image, text) if len(self.weight) else known

    def _said(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits of the Gaussians, (B, C); of classes that have none 0."""
        others = text.new_zeros(text.shape), text.new_zeros(len(text))
        if self.places is not None and self.neighbours:
            others = self._of_neighbours(text)
        weight, bias = self.chosen(self.weight, others[0]), self.chosen(self.bias, others[1])
        return image.to(weight.dtype) @ weight.T + bias

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Fit Gaussians to features (N, d) and labels (N,)."""
        x, labels, count = image.to("cpu", torch.float64), labels.cpu(), len(text)
        sizes = labels.bincount(minlength=count)
        if not sizes.all():
            raise VptError(f"{self.name} has no training image of {int((sizes == 0).sum())} of {count} classes.")
        means = x.new_zeros(count, x.shape[1]).index_add(0, labels, x) / sizes[:, None]
        apart = x - means[labels]
        if self.inverse == "shrunk":
            inverse = _shrunk(apart.T.cov(), len(x))
        else:
            # Of a class of one image there is no covariance.
            weights = (1 / (sizes - 1).clamp(min=1))[labels] / count
            inverse = torch.linalg.pinv((apart * weights[:, None]).T @ apart, hermitian=True)
        self.weight.data, self.bias.data = (part.to(self.weight) for part in _linear(means, inverse))
        if self.neighbours:
            self.seen.data = image.detach().to(self.seen, copy=True)

    @torch.no_grad()
    def search(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> float:
        """Choose alpha by top-1 on validation images (M, d); of equal ones the first is kept.

        Returns:
            The best top-1, between 0 and 1.
        """
        known, said = similarities(image, text, scale), self._said(image, text)
        found = [((known + alpha * said).argmax(-1) == labels).double().mean().item() for alpha in self.grid]
        self.alpha.fill_(self.grid[found.index(max(found))])
        return max(found)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many Gaussians as there were classes."""
        for part, saved in ((self.weight, "weight"), (self.bias, "bias"), (self.seen, "seen")):
            part.data = part.new_empty(len(state[saved]), *part.shape[1:])

    @torch.no_grad()
    def _of_neighbours(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussians of classes by their texts (C, d) and the training images nearest to those."""
        if self._others is None or self._others[0] is not text:
            texts, seen = text.to("cpu", torch.float64), self.seen.to("cpu", torch.float64)
            count = min(self.neighbours, len(seen))
            near = seen[(texts @ seen.T).topk(count).indices]
            means = (1 - SHARE) * near.mean(1) + SHARE * texts
            apart = near - texts[:, None]
            total = torch.zeros(seen.shape[1], seen.shape[1], dtype=seen.dtype)
            for one in apart:
                total += _shrunk(one.T @ one / max(1, count - 1), count)
            weight, bias = (part.to(self.weight) for part in _linear(means, total / len(apart)))
            self._others = text, weight, bias
        return self._others[1:]


def _shrunk(covariance: Tensor, count: int) -> Tensor:
    """The inverse of a covariance of `count` features, drawn towards a multiple of the unit matrix."""
    size = len(covariance)
    ridge = covariance.trace() * torch.eye(size, dtype=covariance.dtype)
    return size * torch.linalg.pinv((count - 1) * covariance + ridge, hermitian=True)


def _linear(means: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of Gaussians with one covariance, all as likely."""
    weight = means @ inverse
    return weight, -(weight * means).sum(-1) / 2
