"""ProLIP: CLIP's visual embedding projector, Fahes et al., 2024, https://arxiv.org/abs/2410.05270."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Objective, Outputs, TextEncoder
from vpt.methods.parts.tuned import Projection


class ProLIP(Method):
    """The last linear map of the image encoder is trained, and held near the pretrained one.

    Loss: cross entropy + weight · |W - W₀|², the squared Frobenius norm (section 3.2). What W is given does not change,
    and is computed once.

    Args:
        tower: the image encoder, whose projection is trained.
        text: the text encoder, which is left as it is.
        weight: λ. Where nothing is chosen on validation images the paper takes one over the images of a class, which is
            the default for 16.

    Raises:
        VptError: a weight below 0, or an encoder without such a map.
    """

    name = "prolip"
    source = "Fahes et al., 2024"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, weight: float = 0.0625) -> None:
        if weight < 0:
            raise VptError(f"weight={weight} would drive the projection from the pretrained one: give 0 or more.")
        projection = Projection(tower, self.name)
        super().__init__(projection=projection, near=NearStart(tower.projection_weight, weight))


class NearStart(Objective):
    """weight · |W - W₀|².

    Args:
        now: gives W, a parameter of the backbone.
        weight: 0 or more.
    """

    wants_frozen = False

    start: Tensor

    def __init__(self, now: Callable[[], nn.Parameter | None], weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._now = now
        self.register_buffer("start", self._matrix().detach().clone(), persistent=False)

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The distance."""
        return self.weight * (self._matrix() - self.start).square().sum()

    def _matrix(self) -> Tensor:
        found = self._now()
        assert found is not None
        return found
