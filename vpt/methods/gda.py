"""Gaussian discriminant analysis of CLIP's features, Wang et al., ICLR 2024, https://arxiv.org/abs/2402.04087."""

from __future__ import annotations

from typing import Any, Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.gaussians import Gaussians


class GDA(Method):
    """Training images of each class as a Gaussian, with one covariance for all: nothing is trained.

    logits = scale · f · Wᵀ + alpha · (f · Σ⁻¹ μ_c - μ_cᵀ Σ⁻¹ μ_c / 2), with text features W, the mean μ_c of each
    class's image features, and their common covariance Σ (section 3.2, equations 4 to 7). Every augmented view of an
    image is an example by itself; the paper's code takes ten.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
        alpha: weight of what images say.
        grid: the weights that are tried when there are validation images; the best takes the place of `alpha`. The
            default is that of the paper's code. None keeps alpha.
        inverse: of the covariance: "shrunk", d · ((N - 1) Σ + tr(Σ) I)⁺ of N features of size d, for few-shot
            learning; or "pseudo", the pseudo-inverse of the mean of the classes' own covariances, as the code has it
            where it goes on to new classes.
        neighbours: classes that were not trained get Gaussians too, from so many training images that are nearest to
            their texts, and the texts, which count for a fifth; 64 in the paper's code (section 3.3). With 0 they are
            judged by their texts alone, and no features of training images are kept.

    Raises:
        VptError: an option out of its range.
    """

    name = "gda"
    source = "Wang et al., ICLR 2024"
    head = "text"
    heads = ("text",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        alpha: float = 1.0,
        grid: tuple[float, ...] | None = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        inverse: Literal["shrunk", "pseudo"] = "shrunk",
        neighbours: int = 0,
    ) -> None:
        options: dict[str, Any] = {"alpha": alpha, "grid": grid or (), "inverse": inverse, "neighbours": neighbours}
        super().__init__(gaussians=Gaussians(tower.num_features, self.name, **options))
