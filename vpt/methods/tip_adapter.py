"""Tip-Adapter, Zhang et al., ECCV 2022, https://arxiv.org/abs/2207.09519."""

from __future__ import annotations

from typing import ClassVar

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.cache import Cache


class TipAdapter(Method):
    """A cache of training images votes for their classes: nothing is trained (section 3.1, equations 3 to 6).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
        alpha: weight of the cache, the "residual ratio"; 1 is the paper's (section 4.1), where its code begins at 1.17.
        beta: how much nearer keys count for more, the "sharpness ratio"; likewise 5.5, where its code begins at 1.
        grid: the largest alpha and beta that are tried, from 0.1, when training is over and there are validation
            images; what is found takes the place of `alpha` and `beta`. The default is that of the paper's code, which
            takes 13, 13 for DTD, 10, 12 for EuroSAT and 30, 30 for FGVC-Aircraft. None keeps alpha and beta.

    Raises:
        VptError: a weight, sharpness or grid that is out of range.
    """

    name = "tip-adapter"
    source = "Zhang et al., ECCV 2022"
    head = "text"
    heads = ("text",)
    renamed = tuple((name, f"cache.{name}") for name in ("keys", "labels", "alpha", "beta"))
    trained: ClassVar[bool] = False

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 5.5,
        grid: tuple[float, float] | None = (3.0, 7.0),
    ) -> None:
        cache = Cache(tower.num_features, self.name, trained=self.trained, alpha=alpha, beta=beta, grid=grid)
        super().__init__(cache=cache)


class TipAdapterF(TipAdapter):
    """Tip-Adapter-F: the keys of the cache are trained, from the features of the training images (section 3.2).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
        alpha: as in `TipAdapter`.
        beta: likewise.
        grid: likewise; alpha and beta are searched for when the keys are trained.
    """

    name = "tip-adapter-f"
    trained = True
