"""Low-Rank Adaptation (LoRA), Hu et al., ICLR 2022, https://arxiv.org/abs/2106.09685."""

from __future__ import annotations

from typing import Any, Literal

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.methods.parts.low_rank import LowRank
from vpt.methods.parts.low_rank_stages import STAGES, LowRankStage


class LoRA(Method):
    """Linear stages of every block, W h, become W h + alpha / rank · B A dropout(h) (section 4.1, equation 3).

    A (rank, inputs) and B (outputs, rank) are learned for each stage by itself, as in peft; alpha / rank is the paper's
    scale. For inference they are merged with W (`compile_prompts`), and cost nothing.

    Args:
        tower: the image encoder.
        text: the text encoder, where the model has one.
        rank: of the added matrices.
        alpha: scales them.
        dropout: of what they are applied to, a mask for each.
        stages: which are added to: q, k, v, o (the output projection), up and down (the layers of the MLP).
        shared: q, k and v have one A, and one mask of dropout, as in the table of visual adapters of OSU (Mai et al.,
            CVPR 2025), where rank 8, scale 1 and dropout 0.1 are taken.
        encoder: "image", "text" or "both".

    Raises:
        VptError: an option out of its range, or an encoder with a block that cannot be added to.
    """

    name = "lora"
    source = "Hu et al., ICLR 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        rank: int = 8,
        alpha: float = 8.0,
        dropout: float = 0.1,
        stages: list[Literal["q", "k", "v", "o", "up", "down"]] | None = None,
        shared: bool = False,
        encoder: Literal["image", "text", "both"] = "image",
    ) -> None:
        stages = ["q", "v"] if stages is None else stages
        if rank < 1:
            raise VptError(f"rank={rank} leaves nothing to learn: give 1 or more.")
        if not 0 <= dropout < 1:
            raise VptError(f"dropout={dropout} must be at least 0 and below 1.")
        if not stages or len(set(stages)) < len(stages):
            raise VptError(f"stages={stages} must name one or more of q, k, v, o, up and down, each once.")
        if encoder != "image" and text is None:
            raise VptError(f"encoder={encoder!r} needs a text encoder: leave it out, or set head='text'.")
        options: dict[str, Any] = {"rank": rank, "scale": alpha / rank, "dropout": dropout}
        parts: dict[str, Part] = {}
        for on, side in (("image", tower), ("text", text)):
            if encoder in (on, "both") and side is not None:
                parts |= _of_side(side, on, self.name, stages, shared, options)
        super().__init__(**parts)


def _of_side(
    encoder: Encoder | TextEncoder, on: Any, name: str, stages: Any, shared: bool, options: dict[str, Any]
) -> dict[str, Part]:
    attention = "".join(stage for stage in ("q", "k", "v") if stage in stages)
    parts: dict[str, Part] = {}
    if attention:
        parts[on] = LowRank(encoder, on, name, projections=attention, shared=shared, **options)
    for stage in STAGES:
        if stage in stages:
            parts[f"{on}_{stage}"] = LowRankStage(encoder, on, stage, name, **options)  # type: ignore[arg-type]
    return parts
