"""PromptSRC: Self-regulating Prompts, Khattak et al., ICCV 2023, https://arxiv.org/abs/2307.06948."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.base import Encoder, Outputs, TextEncoder
from vpt.methods.ivlp import IVLP, up_to
from vpt.precision import full_precision


class PromptSRC(IVLP):
    """Independent prompts that stay near the frozen model, averaged over the epochs of their training.

    The loss (section 3.2.1, with the authors' code where the two differ) is

        cross entropy + text_weight · |t - t*| + image_weight · |v - v*| + logit_weight · KL(p* ‖ p)

    with L2-normalised features of classes t and images v, those of the frozen model with a star, t* being that of
    the mean over many templates; |·| is the mean of absolute differences over all entries, and KL the sum over
    classes of p* (log p* - log p), divided by their number and averaged over images. After the last epoch E the
    prompts become Σ w_e · (prompts after epoch e), w_e ∝ N(e; mean, std), Σ w_e = 1 (section 3.2.2).

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
    frozen_mean = "raw"
    averages_epochs = True

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

        depth = up_to(9, tower, text) if depth is None else depth
        super().__init__(tower, text, num_tokens=num_tokens, num_context=num_context, depth=depth, init=init)
        weights = {"text_weight": text_weight, "image_weight": image_weight, "logit_weight": logit_weight}
        for option, weight in weights.items():
            if weight < 0:
                raise VptError(f"{option}={weight} would drive prompts from the frozen model: give 0 or more.")
        if std <= 0:
            raise VptError(f"std={std} is no width of a Gaussian over epochs: give more than 0.")
        self.text_weight, self.image_weight, self.logit_weight = text_weight, image_weight, logit_weight
        self.mean, self.std = mean, std
        self.needs_frozen = any(weights.values())
        # The authors take the first 60 of the 80 sentences that CLIP's authors chose for ImageNet.
        self.frozen_templates = tuple(sentence("{}") for sentence in OPENAI_IMAGENET_TEMPLATES[:60])
        for name, parameter in list(self.named_parameters()):
            self.register_buffer(f"sum_{name}", torch.zeros_like(parameter.detach()))

    def loss(self, outputs: Outputs, labels: Tensor, label_smoothing: float) -> Tensor:
        """Cross entropy and the three distances to the frozen model."""
        loss = super().loss(outputs, labels, label_smoothing)
        if outputs.frozen_image is None or outputs.frozen_text is None:
            return loss
        frozen_logits = outputs.scale.detach() * outputs.frozen_image @ outputs.frozen_text.T
        predicted = full_precision(outputs.logits).log_softmax(dim=1)
        frozen = full_precision(frozen_logits).log_softmax(dim=1)
        divergence = F.kl_div(predicted, frozen, reduction="sum", log_target=True) / predicted.numel()
        text = F.l1_loss(outputs.text, outputs.frozen_text)
        image = F.l1_loss(outputs.image, outputs.frozen_image)
        return loss + self.text_weight * text + self.image_weight * image + self.logit_weight * divergence

    @torch.no_grad()
    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Add the prompts to the weighted sum; the last time, put the sum in their place."""
        exponents = [-0.5 * ((number - self.mean) / self.std) ** 2 for number in range(1, epochs + 1)]
        weight = torch.tensor(exponents, dtype=torch.float64).softmax(dim=0)[epoch - 1].item()
        for name, parameter in self.named_parameters():
            total = self.get_buffer(f"sum_{name}")
            # Training anew begins a new sum.
            total.mul_(epoch > 1).add_(parameter, alpha=weight)
            if epoch == epochs:
                parameter.copy_(total)
