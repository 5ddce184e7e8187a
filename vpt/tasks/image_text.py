"""Image-text training: paired images and texts are to be closer to each other than to the rest of the batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather, parse_flag_from_env
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

        # As Accelerator makes it; made without the flag first, it would know of one process alone on CPUs.
        self.processes = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        ranks = {"rank": self.processes.process_index, "world_size": self.processes.num_processes}
        self.name = loss
        self.criterion = SigLipLoss(**ranks) if loss == "sigmoid" else ClipLoss(gather_with_grad=True, **ranks)

    def check(self, model: Prompted) -> None:
        """Nothing, if `model` can be trained so; called before a run is begun.

        Raises:
            VptError: it has no text side, its method has no place in this loss, or a sigmoid loss has no logit bias.
        """
        if model.text is None:
            raise VptError("captions need a model with a text side: make it with head='text' from an image-text model.")
        reason = model.method.why_no_captions
        if reason:
            raise VptError(f"{model.method.name} cannot be trained with captions ({reason}): name another method.")
        if self.name == "sigmoid" and model.text.logit_bias is None:
            raise VptError("task.loss=sigmoid needs a model with a logit bias, such as SigLIP: say infonce.")

    def loss(self, model: Prompted, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch (images or their features, token ids), whose mean over processes is that of them all.

        Returns:
            The loss; similarities of these B images with the N texts of all processes, (B, N); and the place of each
            image's own text among them, (B,).

        Raises:
            VptError: as `check`.
        """
        self.check(model)
        images, ids = batch
        assert model.text is not None
        image, text = (_full_precision(features) for features in model.compare(images, ids))
        loss = self.criterion(image, text, model.text.scale(), model.text.logit_bias)
        with torch.no_grad():
            texts: Tensor = gather(text.detach())
            own = torch.arange(len(image), device=image.device) + self.processes.process_index * len(image)
            return loss, image @ texts.T, own


def _full_precision(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
