"""Two-Stage Few-Shot adaptation (2SFS), Farina et al., CVPR 2025, https://arxiv.org/abs/2503.11609."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.staged import StagedRows
from vpt.methods.parts.tuned import Norms


class TwoStage(Method):
    """First the norms of both encoders are trained, then rows of the classes, which begin as their text features.

    In the first stage class names are the classifier; in the second the encoders stay as they have become. Trained
    classes are judged by their rows, others by their texts (section 4). Each stage has its own cosine of the learning
    rate; the paper's are "annealing". A stage ends with an epoch, the code's with a step.

    Args:
        tower: the image encoder.
        text: the text encoder.
        share: of the epochs that the first stage has.

    Raises:
        VptError: a share out of its range, or no text encoder.
    """

    name = "2sfs"
    source = "Farina et al., CVPR 2025"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, share: float = 0.6) -> None:
        if text is None:
            raise VptError(f"{self.name} trains the norms of both encoders: make it from an image-text model.")
        if not 0 < share < 1:
            raise VptError(f"share={share} must lie between 0 (no first stage) and 1 (no second).")
        super().__init__(norms=Norms(), rows=StagedRows(tower.num_features, self.name, share))
