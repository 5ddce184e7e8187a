"""Terms that hold what is learned near what the frozen model says."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from vpt.errors import VptError
from vpt.methods.parts.objective import Objective
from vpt.methods.parts.outputs import Outputs
from vpt.precision import full_precision


class NearTexts(Objective):
    """weight · (1 - mean over classes of cos(t, t*)), with t* those of the hand-written templates.

    Args:
        weight: 0 or more.

    Raises:
        VptError: a weight below 0.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise VptError(f"weight={weight} would drive class features from the templates': give 0 or more.")
        self.weight = weight

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The weighted distance."""
        assert outputs.frozen_text is not None
        return self.weight * (1 - full_precision((outputs.text * outputs.frozen_text).sum(dim=-1)).mean())


class NearFrozen(Objective):
    """text · |t - t*| + image · |v - v*| + logits · KL(p* ‖ p), of texts, images and predictions.

    |·| is the mean of absolute differences over all entries, and KL the sum over classes of p* (log p* - log p),
    divided by their number and averaged over images (Khattak et al., ICCV 2023, with the authors' code).

    Args:
        text: weight of the distance of text features.
        image: weight of the distance of image features.
        logits: weight of the divergence of predictions.
        templates: sentences whose features, averaged as they are, are t*.

    Raises:
        VptError: a weight below 0.
    """

    frozen_mean = "raw"

    def __init__(self, *, text: float, image: float, logits: float, templates: Sequence[str]) -> None:
        super().__init__()
        for option, weight in {"text_weight": text, "image_weight": image, "logit_weight": logits}.items():
            if weight < 0:
                raise VptError(f"{option}={weight} would drive prompts from the frozen model: give 0 or more.")
        self.text, self.image, self.logits = text, image, logits
        self.frozen_templates = tuple(templates)

    @property
    def wants_frozen(self) -> bool:
        """Where any weight is above 0."""
        return any((self.text, self.image, self.logits))

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The three distances."""
        if outputs.frozen_image is None or outputs.frozen_text is None:
            return outputs.logits.new_zeros(())
        frozen_logits = outputs.scale.detach() * outputs.frozen_image @ outputs.frozen_text.T
        predicted = full_precision(outputs.logits).log_softmax(dim=1)
        frozen = full_precision(frozen_logits).log_softmax(dim=1)
        divergence = F.kl_div(predicted, frozen, reduction="sum", log_target=True) / predicted.numel()
        text = F.l1_loss(outputs.text, outputs.frozen_text)
        image = F.l1_loss(outputs.image, outputs.frozen_image)
        return self.text * text + self.image * image + self.logits * divergence
