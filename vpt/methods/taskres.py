"""Task Residual (TaskRes), Yu et al., CVPR 2023, https://arxiv.org/abs/2211.10277."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.rows import Residuals


class TaskRes(Method):
    """A residual x of each class is added to its frozen text feature: t + alpha · x, L2-normalised (equation 4).

    As in the paper's code, t is as long as the encoder makes it, a mean over templates too, which the first steps
    depend on. Other classes than those of training have no residual.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
        alpha: scales the residuals; the paper takes 1 for Flowers102.

    Raises:
        VptError: an alpha that is not above 0.
    """

    name = "taskres"
    source = "Yu et al., CVPR 2023"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, alpha: float = 0.5) -> None:
        if alpha <= 0:
            raise VptError(f"alpha={alpha} leaves nothing to learn: give more than 0.")
        super().__init__(residuals=Residuals(tower.num_features, self.name, alpha))
