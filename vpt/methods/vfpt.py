"""Visual Fourier Prompt Tuning (VFPT), Zeng et al., NeurIPS 2024, https://arxiv.org/abs/2411.01327."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.fourier import Fourier


class VFPT(Method):
    """Prompts before every block, as in VPT-deep, a share of which enters as its Fourier transform (section 3.2).

    Of each block the first ones are transformed, over channels and over the prompts, and the real part is taken.

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P a block.
        share: of the prompts that are transformed, rounded down; the paper chooses from 0 to 1 by data set.
        dropout: of prompt values, a mask for each image.
        project: prompts of this size, brought to the backbone's width by one linear layer.

    Raises:
        VptError: an option out of its range.
    """

    name = "vfpt"
    source = "Zeng et al., NeurIPS 2024"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 10,
        share: float = 0.5,
        dropout: float = 0.0,
        project: int | None = None,
    ) -> None:
        prompts = Fourier(
            tower, range(tower.depth), share=share, num_tokens=num_tokens, dropout=dropout, project=project
        )
        super().__init__(prompts=prompts)
