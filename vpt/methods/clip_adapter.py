"""CLIP-Adapter, Gao et al., IJCV 2024, https://arxiv.org/abs/2110.04544."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.mixed import Mixed, MixedFeatures


class ClipAdapter(Method):
    """A small network behind the frozen image encoder, whose output is mixed with the features that it is given.

    ratio · ReLU(W2 ReLU(W1 f)) + (1 - ratio) · f, without biases, L2-normalised and compared with the frozen
    features of the classes (section 3.2, equations 4 and 6; the visual adapter, which the paper settles on).

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
        reduction: the hidden layer is so many times narrower than features (B, F).
        ratio: share of what the network computes.

    Raises:
        VptError: an option out of its range.
    """

    name = "clip-adapter"
    source = "Gao et al., IJCV 2024"
    head = "text"
    heads = ("text",)
    renamed = (
        ("down.", "features.image.down."),
        ("up.", "features.image.up."),
        ("features.down.", "features.image.down."),
        ("features.up.", "features.image.up."),
    )

    def __init__(
        self, tower: Encoder, text: TextEncoder | None = None, *, reduction: int = 4, ratio: float = 0.2
    ) -> None:
        width = tower.num_features
        if not 1 <= reduction <= width:
            raise VptError(f"reduction={reduction} leaves no hidden layer: give 1 to {width}, the width of features.")
        if not 0 <= ratio <= 1:
            raise VptError(f"ratio={ratio} is no share: give 0 to 1.")
        super().__init__(features=MixedFeatures(image=Mixed(width, width // reduction, ratio)))
