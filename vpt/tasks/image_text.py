"""Image-text training: paired images and texts are to be closer to each other than to the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from accelerate.utils import gather
from torch import Tensor

from vpt.errors import VptError
from vpt.model import Prompted
from vpt.precision import full_precision
from vpt.processes import processes
from vpt.tasks.shares import gathered, own


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

        self.processes = processes()
        ranks = {"rank": self.processes.process_index, "world_size": self.processes.num_processes}
        self.name = loss
        self.criterion = SigLipLoss(**ranks) if loss == "sigmoid" else ClipLoss(gather_with_grad=True, **ranks)
        # Of the features of all processes, where those differ in number.
        self.whole = SigLipLoss() if loss == "sigmoid" else ClipLoss()

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

    def planned(self, model: Prompted, ids: Tensor) -> Any:
        """Where the texts of a batch, ids (N, L - num_context), stand in rows, which is decided off the device."""
        return model.plan(ids)

    def loss(self, model: Prompted, batch: Any, sizes: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of a batch (images or their features, token ids), whose mean over processes is that of them all.

        Args:
            model: what is trained.
            batch: images and token ids, or what `planned` made of those.
            sizes: pairs of the step in each process, where they differ.

        Returns:
            The loss; similarities of these B images with the N texts of all processes, (B, N); and the place of each
            image's own text among them, (B,).

        Raises:
            VptError: as `check`.
        """
        self.check(model)
        images, ids = batch
        assert model.text is not None
        image, text = (full_precision(features) for features in model.compare(images, ids))
        scale, bias = model.text.scale(), model.text.logit_bias
        if sizes is not None and len(set(sizes)) > 1:
            image, text = own(image, sizes), own(text, sizes)
            texts = gathered(text, sizes)
            loss = self.whole(gathered(image, sizes), texts, scale, bias)
            places = torch.arange(len(image), device=image.device) + sum(sizes[: self.processes.process_index])
            return loss, (image @ texts.T).detach(), places
        loss = self.criterion(image, text, scale, bias)
        with torch.no_grad():
            texts = gather(text.detach())
            places = torch.arange(len(image), device=image.device) + self.processes.process_index * len(image)
            return loss, image @ texts.T, places
