"""CoPrompt: Consistency-guided Prompt Learning, Roy and Etemad, ICLR 2024, https://arxiv.org/abs/2306.01195."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.ivlp import both_sides, check_counts
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.consistent import Consistent
from vpt.methods.parts.deep import Coupled, DeepText
from vpt.methods.parts.mixed import Mixed, MixedFeatures


class CoPrompt(Method):
    """MaPLe's prompts, a small network behind each encoder, and features that agree with the frozen model's.

    The loss (section 3.2, equations 3 to 5) is

        cross entropy + weight · (1 - cos(t, t*) + 1 - cos(v, v*))

    with features of classes t and of an augmented image v; t* are those of another sentence about the class in the
    frozen model, and v* those of the same image augmented once more. The networks are CLIP-Adapter's, one a side.

    Args:
        tower: the image encoder, of any width.
        text: the text encoder, of any width.
        num_context: prompts n a block, in each encoder.
        depth: how many blocks get prompts; by default 9, or all of the shallower encoder where it has fewer.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do.
        reduction: the hidden layers are so many times narrower than features (B, F).
        image_ratio: share of what the network behind the image encoder computes.
        text_ratio: share of the other.
        weight: of the second term, λ in equation 5; the paper's differ between 0.1 and 8 by data set.
        sentences: a JSON file of {class name: [sentence, …]}, as many for each class; the paper's come from GPT-3. By
            default t* are of OpenAI's 80 templates. It is read when training begins.

    Raises:
        VptError: as `IVLP`; an option out of its range; while it trains, what is wrong with the file.
    """

    name = "coprompt"
    source = "Roy and Etemad, ICLR 2024"
    head = "text"
    heads = ("text",)
    for_training = ("sentences",)

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_context: int = 2,
        depth: int | None = None,
        init: str | None = "a photo of a",
        reduction: int = 4,
        image_ratio: float = 0.1,
        text_ratio: float = 0.2,
        weight: float = 1.0,
        sentences: str | None = None,
    ) -> None:
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        text, depth = both_sides(self.name, tower, text, 9 if depth is None else depth, given=depth is not None)
        check_counts(num_context=num_context)
        width = tower.num_features
        if not 1 <= reduction <= width:
            raise VptError(f"reduction={reduction} leaves no hidden layer: give 1 to {width}, the width of features.")
        for option, ratio in {"image_ratio": image_ratio, "text_ratio": text_ratio}.items():
            if not 0 <= ratio <= 1:
                raise VptError(f"{option}={ratio} is no share: give 0 to 1.")
        context = DeepText(text, num_context=num_context, depth=depth, init=init)
        hidden = width // reduction
        super().__init__(
            context=context,
            prompts=Coupled(tower, context),
            adapters=MixedFeatures(image=Mixed(width, hidden, image_ratio), text=Mixed(width, hidden, text_ratio)),
            near=Consistent(weight, [sentence("{}") for sentence in OPENAI_IMAGENET_TEMPLATES], sentences),
        )
        self.template = context.template
