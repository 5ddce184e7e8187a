"""Multi-Modal Adapter (MMA), Yang et al., CVPR 2024."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.bridged import Bridge, BridgedAdapters


class MMA(Method):
    """Adapters beside the last blocks of both encoders, whose middle layer an image and a text block share.

    A block x becomes x' + MLP(x') + scale · U ReLU(S ReLU(D y)), with x' what attention makes of x, y the normed tokens
    that attention is given, D and U an encoder's own, S one for both (section 3.2). All layers have biases, and begin
    as He's normal initialisation for the fan-out. As in the paper's code the scale does not shrink what adapters learn
    by: backward passes leave it out within them.

    Args:
        tower: the image encoder.
        text: the text encoder.
        blocks: how many of the last blocks have adapters; the paper's are 8 of 12, or all that there are.
        rank: of the adapters.
        scale: of what they add.

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be opened.
    """

    name = "mma"
    source = "Yang et al., CVPR 2024"
    head = "text"
    heads = ("text",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        blocks: int | None = None,
        rank: int = 32,
        scale: float = 0.001,
    ) -> None:
        if text is None:
            raise VptError(f"{self.name} has adapters in both encoders: make it from an image-text model.")
        most = min(tower.depth, text.depth)
        if blocks is not None and not 1 <= blocks <= most:
            raise VptError(f"blocks={blocks}: {self.name} takes 1 to {most}, the blocks of the shallower encoder.")
        if rank < 1 or scale <= 0:
            raise VptError(f"rank={rank} and scale={scale} leave nothing to learn: give 1 or more, and more than 0.")
        bridge = Bridge(min(8, most) if blocks is None else blocks, rank)
        sides = {
            on: BridgedAdapters(encoder, on, self.name, bridge, scale)  # type: ignore[arg-type]
            for on, encoder in (("image", tower), ("text", text))
        }
        super().__init__(**sides, shared=bridge)
