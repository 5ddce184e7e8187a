"""Textual-based Class-aware Prompt tuning (TCP), Yao et al., CVPR 2024, https://arxiv.org/abs/2311.18231."""

from __future__ import annotations

from typing import Any

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.class_aware import ClassAware
from vpt.methods.parts.distances import NearTexts


class TCP(Method):
    """Context that all classes share, in whose places each class has its own from a block in the middle on.

    A class's own is made of the feature of its name in hand-written templates by a small network (section 3.2,
    equations 4 and 5). The loss is KgCoOp's: cross entropy + weight · (1 - mean over classes of cos(t, t_template)).
    New classes get theirs from their names.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02), as in the paper's code.
        num_tokens: tokens of context n.
        block: before which a class's own takes the places of the context, 0 being the first; the paper's is 8 of 12, or
            two thirds of the blocks where there are not so many.
        reduction: the hidden layer is so many times narrower than features.
        weight: of the second term.
        template: what names are put in behind the context; the code keeps what follows the first four words of a data
            set's own sentence, as "{}, a type of pet.".

    Raises:
        VptError: an option out of its range.
    """

    name = "tcp"
    source = "Yao et al., CVPR 2024"
    head = "text"
    heads = ("text",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = None,
        num_tokens: int = 4,
        block: int | None = None,
        reduction: int = 4,
        weight: float = 8.0,
        template: str = "{}.",
    ) -> None:
        options: dict[str, Any] = {"init": init, "num_tokens": num_tokens, "block": block, "reduction": reduction}
        super().__init__(context=ClassAware(text, self.name, **options), near=NearTexts(weight))
        self.template = template
