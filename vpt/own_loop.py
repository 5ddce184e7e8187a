"""What a training loop of one's own asks of a model: the loss of a batch, and the moments of the method."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.loops import encode_tokens
from vpt.normalised import normalised
from vpt.precision import full_precision, in_own


class OwnLoop(nn.Module):
    """The half of `vpt.model.Prompted` that loops call; `vpt.fit` makes the same calls.

    In order: `initialise` and `prepare` before the first step, `loss` at each step, `end_epoch` after each epoch,
    `search` at the end. A method that has nothing to do at one of these moments does nothing then.
    """

    def loss(self, batch: tuple[Tensor, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        """The loss of a batch, a scalar: cross entropy, and what the method adds to it.

        Args:
            batch: images, preprocessed (B, 3, H, W), or two views of each (B, 2, 3, H, W), of which the frozen model is
                shown the second one where the loss asks for it, or their features (B, F); and labels (B,), or labels
                and what a teacher's image encoder makes of the images, (B, T).
            label_smoothing: in [0, 1).
        """
        return self.loss_and_logits(batch, label_smoothing=label_smoothing)[0]

    def loss_and_logits(self, batch: tuple[Tensor, Tensor], *, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """As `loss`, with the logits (B, C)."""
        model: Any = self
        images, labels = batch
        # A teacher's features may stand beside the labels.
        labels, taught = labels if isinstance(labels, tuple | list) else (labels, None)
        second = None
        if isinstance(images, Tensor) and images.ndim == 5:
            images, second = images.unbind(1)
        if model.head is None:
            outputs = model.outputs(images, second=second, taught=taught)
            return model.method.loss(outputs, labels, label_smoothing), outputs.logits
        logits = model(images)
        return F.cross_entropy(full_precision(logits), labels, label_smoothing=label_smoothing), logits

    @property
    def needs_images(self) -> bool:
        """Whether `initialise` must be called before training."""
        model: Any = self
        needs: bool = model.method.needs_images
        return needs

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set the prompts from what the frozen blocks are given for these training images (B, 3, H, W)."""
        model: Any = self
        model.method.initialise(model.block_inputs(images, prompted=False))

    @torch.no_grad()
    def prepare(self, images: Tensor, labels: Tensor) -> None:
        """Let the classifier look at all training images, where it begins with them (Tip-Adapter, linear-text, …).

        Args:
            images: preprocessed (N, 3, H, W), or their features (N, F), such as `features` gives batch by batch.
            labels: (N,).
        """
        model: Any = self
        if model.method.classifier.needs_features:
            # What it learns is for the classes in use.
            model.learned_classes = model.classes
            model.method.set_classes(None)
            model.method.classifier.prepare(*_features(model, images, labels))

    @torch.no_grad()
    def search(self, images: Tensor, labels: Tensor) -> None:
        """Let the classifier choose what is not trained, by validation images; arguments as of `prepare`."""
        model: Any = self
        if model.method.classifier.searches:
            model.method.classifier.search(*_features(model, images, labels))

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after epoch 1, 2, … of `epochs`, before it is evaluated (PromptSRC averages its prompts then)."""
        model: Any = self
        model.method.end_epoch(epoch, epochs)
        if model.method.classifier.begins(epoch, epochs):
            with torch.no_grad():
                model.method.classifier.begin(model.class_features(lengths=True))

    def tokens(self, images: Tensor, *, after: int | None = None) -> Tensor:
        """The image's own tokens after a block, with gradients to what is learned, (B, N, D), for heads of one's own.

        Prompts are left out; the first `model.tower.prefix` are no patches. They are not normed: after the last block
        `model.tower.final_norm()` is what the backbone's own readout begins with.

        Args:
            images: preprocessed (B, 3, H, W).
            after: the block, from 0; the last by default.

        Raises:
            VptError: there is no such block, or the encoder is not opened.
        """
        model: Any = self
        tower = model.tower
        last = tower.depth - 1 if after is None else after
        if tower.closed is not None:
            raise VptError(f"there are no tokens to be had of this encoder: {tower.closed}.")
        if not 0 <= last < tower.depth:
            raise VptError(f"after={after}: the backbone has blocks 0 to {tower.depth - 1}.")
        with in_own(tower.kernel):
            return encode_tokens(tower, model.method, images, last)


def _features(model: Any, images: Tensor, labels: Tensor) -> tuple[Any, ...]:
    """L2-normalised features of images and classes, with what classifiers take beside them."""
    if model.text is None:
        raise VptError(f"{model.method.name} compares images with texts: make the model with head='text'.")
    image = normalised(full_precision(model.features(images)))
    text = full_precision(model.class_features(lengths=model.method.classifier.lengths))
    return image, labels, text, model.text.scale()
