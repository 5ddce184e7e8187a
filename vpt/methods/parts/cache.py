"""A cache of training images as classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import Classifier, similarities
from vpt.normalised import normalised


class Cache(Classifier):
    """A cache of training images votes for their classes: nothing is trained.

    logits = scale · f · Wᵀ + alpha · exp(-beta · (1 - f · Kᵀ)) V, with keys K (N, F), the L2-normalised features of N
    training images, and values V (N, C), their labels one-hot (section 3.1, equations 3 to 6). Until `prepare` has
    filled the cache, the logits are those of the class names alone.

    Args:
        num_features: F.
        name: of the method, for errors.
        trained: the keys are, from the features of the training images.
        alpha: weight of the cache, the "residual ratio"; 1 is the paper's (section 4.1), where its code begins at 1.17.
        beta: how much nearer keys count for more, the "sharpness ratio"; likewise 5.5, where its code begins at 1.
        grid: the largest alpha and beta that `search` tries, from 0.1, when training is over and there are validation
            images; what it finds takes the place of `alpha` and `beta`. The default is that of the paper's code, which
            takes 13, 13 for DTD, 10, 12 for EuroSAT and 30, 30 for FGVC-Aircraft. None keeps alpha and beta.

    Raises:
        VptError: a weight, sharpness or grid that is out of range.

    Attributes:
        keys: K.
        labels: (N,), for V.
        alpha: as it was given or found by `search`, a scalar; saved with the cache.
        beta: likewise.
    """

    needs_features = True

    keys: Tensor
    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        num_features: int,
        name: str,
        *,
        trained: bool,
        alpha: float,
        beta: float,
        grid: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.name, self.trained = name, trained
        if grid is not None and min(grid) <= 0.1:
            raise VptError(f"grid={grid} ends where it begins: give a largest alpha and a largest beta above 0.1.")
        self.grid = grid
        self.searches = grid is not None
        for option, value in {"alpha": alpha, "beta": beta}.items():
            if value < 0:
                raise VptError(f"{option}={value} would turn the cache against itself: give 0 or more.")
            self.register_buffer(option, torch.tensor(float(value)))
        self.register_buffer("labels", torch.empty(0, dtype=torch.long))
        keys = torch.empty(0, num_features)
        if self.trained:
            self.keys = nn.Parameter(keys)
        else:
            self.register_buffer("keys", keys)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """What class names say, and what the cache does."""
        if self.trained and self.training and not len(self.keys):
            raise VptError(f"{self.name} has no keys to train yet: call prepare before the first step.")
        known = similarities(image, text, scale)
        return known + self.alpha * self._votes(self._affinities(image), self.beta, text.shape[0])

    @torch.no_grad()
    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Fill the cache with features (N, F) and labels (N,); means over augmented views need not be normalised."""
        self.keys.data = normalised(image.detach()).to(self.keys)
        self.labels.data = labels.detach().to(self.labels, copy=True)

    @torch.no_grad()
    def search(
        self,
        image: Tensor,
        labels: Tensor,
        text: Tensor,
        scale: Tensor,
        *,
        alphas: Sequence[float] | None = None,
        betas: Sequence[float] | None = None,
    ) -> float:
        """Choose alpha and beta by top-1 on validation images, never on test images; they are saved with the model.

        Of equal ones the first is kept, smaller betas before larger ones.

        Args:
            image: L2-normalised features of validation images, (M, F).
            labels: theirs, (M,).
            text: L2-normalised features of the classes, (C, F).
            scale: of similarities with them.
            alphas: to be tried; by default 20 from 0.1 on to `grid`, its end left out, as in the paper's code.
            betas: likewise; by default 200.

        Returns:
            The best top-1, between 0 and 1.

        Raises:
            VptError: there are no validation images, or the cache is empty.
        """
        if not len(image):
            raise VptError("there are no validation images to choose alpha and beta by: give at least one.")
        if not len(self.keys):
            raise VptError(f"the cache of {self.name} is empty: call prepare before search.")
        known, affinities = similarities(image, text, scale), self._affinities(image)
        best, chosen = -1.0, (float(self.alpha), float(self.beta))
        largest = self.grid or (3.0, 7.0)
        for beta in _steps(largest[1], 200) if betas is None else betas:
            votes = self._votes(affinities, beta, len(text))
            for alpha in _steps(largest[0], 20) if alphas is None else alphas:
                top1 = ((known + alpha * votes).argmax(dim=-1) == labels).double().mean().item()
                if top1 > best:
                    best, chosen = top1, (alpha, beta)
        self.alpha.fill_(chosen[0])
        self.beta.fill_(chosen[1])
        return best

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """As many keys as there were training images."""
        self.keys.data = self.keys.new_empty(len(state["keys"]), self.keys.shape[1])
        self.labels.data = self.labels.new_empty(len(state["labels"]))

    def check_new_classes(self) -> None:
        """The cache holds images of its classes."""
        raise VptError(f"the cache of {self.name} knows its own classes alone: fill another to change them.")

    def _affinities(self, image: Tensor) -> Tensor:
        """f · Kᵀ, (B, N)."""
        return image.to(self.keys.dtype) @ self.keys.T

    def _votes(self, affinities: Tensor, beta: Tensor | float, num_classes: int) -> Tensor:
        """exp(-beta · (1 - f · Kᵀ)) V, (B, C)."""
        weights = (beta * (affinities - 1)).exp()
        # The product with one-hot values, which are mostly zeros, without holding them.
        return weights.new_zeros(weights.shape[0], num_classes).index_add(1, self.labels, weights)


def _steps(largest: float, count: int) -> list[float]:
    return [0.1 + (largest - 0.1) * step / count for step in range(count)]
