"""Multi-Modal Representation Learning (MMRL), Guo & Gu, CVPR 2025, https://arxiv.org/abs/2503.08497."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.representation import (
    ImageRepresentation,
    RepresentationLoss,
    Representations,
    SharedSpace,
    TextRepresentation,
)


class MMRL(Method):
    """Tokens of a space that both encoders share enter their last blocks, and those of images are read out too.

    The tokens R are made into an encoder's own by a linear layer for each block. In the image encoder they stand behind
    the class token, in the text encoder behind the start token, which they make longer. Beside the class feature f_c
    there is f_r, of the mean of the image's tokens after the last block by a projection of its own. The loss (section
    3.4) is

        alpha · CE(f_c) + (1 - alpha) · CE(f_r) + weight · (1 - cos(f_c, f_c*)) + weight · (1 - cos(t, t*))

    with those of the frozen model with a star. Trained classes are judged by alpha · f_c and (1 - alpha) · f_r, others
    by f_c alone.

    Args:
        tower: the image encoder.
        text: the text encoder.
        num_tokens: of the shared space.
        size: of each of them; the paper's is 512, for EuroSAT 2048.
        blocks: how many of the last blocks they enter; the paper's are 7 of 12, or all but one where there are fewer.
        alpha: share of the class feature.
        weight: of the distances; from 0.01 to 7 by data set in the paper's code.

    Raises:
        VptError: an option out of its range, or no text encoder.
    """

    name = "mmrl"
    source = "Guo & Gu, CVPR 2025"
    head = "text"
    heads = ("text",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 5,
        size: int = 512,
        blocks: int | None = None,
        alpha: float = 0.7,
        weight: float = 0.5,
    ) -> None:
        if text is None:
            raise VptError(f"{self.name} has tokens in both encoders: make it from an image-text model.")
        most = min(tower.depth, text.depth) - 1
        if min(num_tokens, size) < 1:
            raise VptError(f"num_tokens={num_tokens} and size={size} leave nothing to learn: give 1 or more.")
        if blocks is not None and not 1 <= blocks <= most:
            raise VptError(f"blocks={blocks}: {self.name} takes 1 to {most}, those behind the first.")
        if not 0 < alpha < 1 or weight < 0:
            raise VptError(f"alpha={alpha} has to lie between 0 and 1, and weight={weight} to be 0 or more.")
        blocks = min(7, most) if blocks is None else blocks
        space = SharedSpace(num_tokens, size)
        readouts = Representations(tower, self.name, alpha)
        super().__init__(
            space=space,
            context=TextRepresentation(text, space, blocks),
            prompts=ImageRepresentation(tower, space, blocks),
            readouts=readouts,
            near=RepresentationLoss(readouts, weight),
        )
