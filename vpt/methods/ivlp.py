"""Independent vision-language prompting (IVLP), Rasheed et al., CVPR 2023, https://arxiv.org/abs/2212.03640.

As in the code of MaPLe (Khattak et al., CVPR 2023), whose baseline it is.
"""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.methods.parts.deep import DeepText
from vpt.methods.parts.tokens import Tokens

RENAMED = (("text_values", "context.values"), ("image_values", "prompts.values"))


class IVLP(Method):
    """Prompts of each encoder, learned independently of the other's, new ones before each of the first blocks.

    Image prompts stand behind the patches. Those of block 0 have no position and go through CLIP's norm before the
    blocks. What becomes of the last ones flows on.

    Args:
        tower: the image encoder.
        text: the text encoder.
        num_tokens: image prompts a block.
        num_context: text prompts a block.
        depth: how many blocks of each encoder get prompts; by default all of the shallower one.
        image_depth: how many of the image encoder, where not `depth`; 0 prompts language only.
        text_depth: how many of the text encoder, where not `depth`; for images only there is vpt-deep.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do.

    Raises:
        VptError: no text encoder, an option out of range, or words that are not `num_context` tokens.
    """

    name = "ivlp"
    source = "Rasheed et al., CVPR 2023"
    head = "text"
    heads = ("text",)
    renamed = RENAMED

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 2,
        num_context: int = 2,
        depth: int | None = None,
        image_depth: int | None = None,
        text_depth: int | None = None,
        init: str | None = "a photo of a",
    ) -> None:
        text, depth = both_sides(self.name, tower, text, 12 if depth is None else depth, given=depth is not None)
        image_depth = depth if image_depth is None else image_depth
        text_depth = depth if text_depth is None else text_depth
        parts = independent(
            self.name,
            tower,
            text,
            num_tokens=num_tokens,
            num_context=num_context,
            image_depth=image_depth,
            text_depth=text_depth,
            init=init,
        )
        super().__init__(**parts)
        self.template = template_of(parts)


def both_sides(
    name: str, tower: Encoder, text: TextEncoder | None, depth: int, *, given: bool
) -> tuple[TextEncoder, int]:
    """The text encoder, and how many blocks have prompts: a published number, or all where an encoder has fewer.

    Raises:
        VptError: no text encoder, or a depth that was `given` and is out of range.
    """
    if text is None:
        raise VptError(f"{name} has prompts in the text encoder: make it from an image-text model.")
    most = min(tower.depth, text.depth)
    if given and not 1 <= depth <= most:
        raise VptError(f"depth={depth}: {name} takes 1 to {most}, the blocks of the shallower encoder.")
    return text, min(depth, most)


def independent(
    name: str,
    tower: Encoder,
    text: TextEncoder,
    *,
    num_tokens: int,
    num_context: int,
    image_depth: int,
    text_depth: int,
    init: str | None,
) -> dict[str, Part]:
    """The prompts of both encoders; image prompts only where `image_depth` is above 0.

    Raises:
        VptError: an option out of its range.
    """
    check_counts(num_context=num_context, num_tokens=num_tokens)
    for side, value, least, blocks in (("image", image_depth, 0, tower.depth), ("text", text_depth, 1, text.depth)):
        if not least <= value <= blocks:
            raise VptError(f"{side}_depth={value}: {name} takes {least} to {blocks} blocks.")
    parts: dict[str, Part] = {"context": DeepText(text, num_context=num_context, depth=text_depth, init=init)}
    if image_depth:
        parts["prompts"] = Tokens(
            tower, range(image_depth), num_tokens=num_tokens, init="normal", before_norm=True, behind=True
        )
    return parts


def check_counts(**counts: int) -> None:
    """Nothing, if there is something to learn.

    Raises:
        VptError: a number of prompts below 1.
    """
    for option, value in counts.items():
        if value < 1:
            raise VptError(f"{option}={value} leaves no prompt to learn: give 1 or more.")


def template_of(parts: dict[str, Part]) -> str:
    """What class names are put in behind the text prompts."""
    context = parts["context"]
    assert isinstance(context, DeepText)
    return context.template
