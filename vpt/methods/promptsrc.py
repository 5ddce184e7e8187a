"""PromptSRC: Self-regulating Prompts, Khattak et al., ICCV 2023, https://arxiv.org/abs/2307.06948."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.ivlp import RENAMED, both_sides, independent, template_of
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.average import GaussianAverage
from vpt.methods.parts.distances import NearFrozen


class PromptSRC(Method):
    """Independent prompts that stay near the frozen model, averaged over the epochs of their training.

    The loss (section 3.2.1, with the authors' code where the two differ) is

        cross entropy + text_weight · |t - t*| + image_weight · |v - v*| + logit_weight · KL(p* ‖ p)

    with L2-normalised features of classes t and images v, those of the frozen model with a star, t* being that of
    the mean over many templates. After the last epoch the prompts become their Gaussian average (section 3.2.2).

    Args:
        tower: the image encoder.
        text: the text encoder.
        num_tokens: image prompts a block.
        num_context: text prompts a block.
        depth: how many blocks of each encoder get prompts; by default 9, or all where the shallower one has fewer.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do.
        text_weight: of the distance of text features.
        image_weight: of the distance of image features.
        logit_weight: of the divergence of predictions.
        mean: of the Gaussian over epochs, in epochs.
        std: its standard deviation, in epochs.

    Raises:
        VptError: as `IVLP`; a weight below 0, or a deviation that is not above 0.
    """

    name = "promptsrc"
    source = "Khattak et al., ICCV 2023"
    head = "text"
    heads = ("text",)
    renamed = (
        *RENAMED,
        ("sum_text_values", "average.sum_context_values"),
        ("sum_image_values", "average.sum_prompts_values"),
    )

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 4,
        num_context: int = 4,
        depth: int | None = None,
        init: str | None = "a photo of a",
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        logit_weight: float = 1.0,
        mean: float = 15.0,
        std: float = 1.0,
    ) -> None:
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        text, depth = both_sides(self.name, tower, text, 9 if depth is None else depth, given=depth is not None)
        prompts = independent(
            self.name,
            tower,
            text,
            num_tokens=num_tokens,
            num_context=num_context,
            image_depth=depth,
            text_depth=depth,
            init=init,
        )
        # The authors take the first 60 of the 80 sentences that CLIP's authors chose for ImageNet.
        sentences = [sentence("{}") for sentence in OPENAI_IMAGENET_TEMPLATES[:60]]
        near = NearFrozen(text=text_weight, image=image_weight, logits=logit_weight, templates=sentences)
        super().__init__(**prompts, near=near, average=GaussianAverage(mean=mean, std=std, **prompts))
        self.template = template_of(prompts)
