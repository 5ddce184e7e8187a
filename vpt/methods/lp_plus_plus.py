"""LP++, Huang et al., CVPR 2024, https://arxiv.org/abs/2404.02285."""

from __future__ import annotations

from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.blended import Blended, BlendedSteps


class LPPlusPlus(Method):
    """A linear probe blended with text features, whose learning rates follow from the features.

    logits = f · w_c + b_c + alpha_c f · t_c, with L2-normalised features and without CLIP's scale. Weights w and biases
    b are learned by steps of 4 N / λ_max(FᵀF), with the features F (N, d) of all training images, times the
    learning rate that is given, which is to be 1 for the paper's; alpha every tenth step, by N / (4 max_c Σ (f · t_c)²)
    times the sum of its gradients from the first step on. All training images are one batch; SGD has a momentum of 0.9,
    no weight decay and no schedule.

    As in the paper's code, with which its figures were made: w begins as the sum, and not the mean, of a class's
    features; b at random; alpha as 250 times the mean of f · t; and alpha's gradient is never set to 0, so that each of
    its steps takes those before once more. The code keeps the last of its best epochs, here the first is kept.
    Other classes than those of training are judged by their texts.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder, likewise.
    """

    name = "lp++"
    source = "Huang et al., CVPR 2024"
    head = "text"
    heads = ("text",)

    def __init__(self, tower: Encoder, text: TextEncoder | None = None) -> None:
        probe = Blended(tower.num_features, self.name)
        super().__init__(probe=probe, steps=BlendedSteps(probe, every=10))
