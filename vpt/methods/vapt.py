"""Visual Adaptive Prompt Tuning (VAPT), Le et al., 2025, https://arxiv.org/abs/2501.18936."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.adaptive import Adaptive


class VAPT(Method):
    """Prompts of every block, which from the second on are made of the image's tokens before the block (section 4.1).

    Patches are normed, go through a convolution that all channels share, and are summed with learned weights for each
    prompt; two layers, the same in all blocks, are added to that.

    Args:
        tower: the encoder that is prompted, for images of one size.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P a block.
        learned: how many of the first blocks have prompts that are learned as they are.
        kernel: side of the convolutions.
        hidden: numbers between the two layers.
        dropout: of prompts that are learned as they are.
        drop_channels: share of channels dropped behind a convolution, in training.

    Raises:
        VptError: an option out of its range, or an encoder of images of any size.
    """

    name = "vapt"
    source = "Le et al., 2025"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 10,
        learned: int = 1,
        kernel: int = 2,
        hidden: int = 16,
        dropout: float = 0.1,
        drop_channels: float = 0.1,
    ) -> None:
        prompts = Adaptive(
            tower,
            num_tokens=num_tokens,
            learned=learned,
            kernel=kernel,
            hidden=hidden,
            dropout=dropout,
            drop_channels=drop_channels,
        )
        super().__init__(prompts=prompts)
