"""Visual Prompt Tuning, Jia et al., ECCV 2022, https://arxiv.org/abs/2203.12119."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tokens import Tokens, blocks_of

RENAMED = (("values", "prompts.values"), ("project.", "prompts.project."))


class VPTShallow(Method):
    """VPT-shallow: prompts enter before block 0 and are advanced with the image (equations 4 and 5).

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P.
        dropout: of prompt values, a mask for each image.
        project: prompts of this size, brought to the backbone's width by one linear layer.
        init: "uniform" as in the paper, "normal" for N(0, 0.02), or "patches" for patch tokens of training images.
    """

    name = "vpt-shallow"
    source = "Jia et al., ECCV 2022"
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 50,
        dropout: float = 0.0,
        project: int | None = None,
        init: Literal["uniform", "normal", "patches"] = "uniform",
    ) -> None:
        super().__init__(prompts=Tokens(tower, [0], num_tokens=num_tokens, dropout=dropout, project=project, init=init))


class VPTDeep(Method):
    """VPT-deep: every block has prompts of its own, and drops what it computes at their places (equation 6).

    Args:
        tower: the encoder that is prompted.
        text: the text encoder, which is left as it is.
        num_tokens: prompts P a block.
        first: only the first so many blocks get new prompts; the last of them are carried on.
        last: only the last so many blocks get prompts.
        blocks: those that get new prompts, from 0 on; before others the last ones are carried on.
        shared: one set of prompts for all blocks.
        dropout: of prompt values, a mask for each image.
        project: prompts of this size, brought to the backbone's width by one linear layer.
        init: "uniform" as in the paper, "normal" for N(0, 0.02), or "patches" for patch tokens of training images.
        pre_norm: prompts of block 0 go through CLIP's norm before the blocks, as in the code of MaPLe (Khattak et al.,
            CVPR 2023), where this is a baseline.
    """

    name = "vpt-deep"
    source = "Jia et al., ECCV 2022"
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 10,
        first: int | None = None,
        last: int | None = None,
        blocks: Sequence[int] | None = None,
        shared: bool = False,
        dropout: float = 0.0,
        project: int | None = None,
        init: Literal["uniform", "normal", "patches"] = "uniform",
        pre_norm: bool = False,
    ) -> None:
        prompts = Tokens(
            tower,
            blocks_of(tower, first, last, blocks),
            num_tokens=num_tokens,
            shared=shared,
            dropout=dropout,
            project=project,
            init=init,
            before_norm=pre_norm,
        )
        super().__init__(prompts=prompts)
