"""Attribute-anchored prompts (ATPrompt), Li et al., ICCV 2025, https://arxiv.org/abs/2412.09442."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.anchored import AnchoredContext


class ATPrompt(Method):
    """CoOp with words of attributes between its learned context: "V V color V V shape V V dog.", V being learned.

    The attributes stay as they are (section 3.2, equation 4, on CoOp). What a text begins with is the same for all
    classes, attributes included.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        attributes: words that all classes of a data set share; the paper searches them for each data set, and takes
            color and shape for ImageNet.
        num_tokens: tokens of context before each attribute, and before the class name.

    Raises:
        VptError: no attribute, or no place for so many tokens.
    """

    name = "atprompt"
    source = "Li et al., ICCV 2025"
    head = "text"
    heads = ("text",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        attributes: list[str] | None = None,
        num_tokens: int = 2,
    ) -> None:
        words = ["color", "shape"] if attributes is None else attributes
        super().__init__(context=AnchoredContext(text, self.name, attributes=words, num_tokens=num_tokens))
        self.template = " ".join([*words, "{}."])
