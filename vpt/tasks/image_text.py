"""Image-text training: paired images and texts are to be closer to each other than to the rest of the batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from accelerate import PartialState
from torch import Tensor

from vpt.errors import VptError
from vpt.model import Prompted


class ImageText:
    """A contrastive loss over paired batches, which are gathered over all processes.

    Args:
        loss: "infonce", symmetric cross entropy over the batch (Radford et al., ICML 2021), or "sigmoid", of
            every pair by itself (SigLIP, Zhai et al., ICCV 2023), which needs a model with a logit bias.
    """

    selects = "rsum"

    def __init__(self, *, loss: Literal["infonce", "sigmoid"] = "infonce") -> None:
        # open_clip takes seconds to import, and classification does without.
        from open_clip.loss import ClipLoss, SigLipLoss

        processes = PartialState()
        ranks = {"rank": processes.process_index, "world_size": processes.num_processes}
        self.name = loss
        self.criterion = SigLipLoss(**ranks) if loss == "sigmoid" else ClipLoss(gather_with_grad=True, **ranks)

    def loss(self, model: Prompted, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch (images or their features, token ids), similarities (B, B), and 0 to B - 1.

        Raises:
            VptError: a sigmoid loss for a model without a logit bias.
        """
        images, ids = batch
        assert model.text is not None
        bias = model.text.logit_bias
        if self.name == "sigmoid" and bias is None:
            raise VptError("task.loss=sigmoid needs a model with a logit bias, such as SigLIP: say infonce.")
        image, text = (features.float() for features in model.compare(images, ids))
        loss = self.criterion(image, text, model.text.scale(), bias)
        return loss, (image @ text.T).detach(), torch.arange(len(image), device=image.device)
