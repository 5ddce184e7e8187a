"""What a method of adaptation is to the model that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.precision import full_precision


class Encoder(Protocol):
    """The shape of an image tower, and its parameters: all that a method may know of it."""

    width: int
    depth: int
    num_features: int
    prefix: int
    patch_size: int
    channels: int
    classifier: tuple[Tensor, Tensor | None] | None

    def width_at(self, layer: int) -> int:
        """D of tokens before block `layer`."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters."""

    def block(self, layer: int) -> nn.Module:
        """Block `layer`."""

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to what block `layer` attends by, or None where it can."""

    def final_norm(self) -> nn.Module:
        """The norm after the last block."""

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """CLIP's norm before block 0."""


class TextEncoder(Protocol):
    """The shape of a text tower, its parameters, and its words without positions."""

    width: int
    depth: int
    num_features: int
    causal: bool
    context_length: int

    @property
    def start(self) -> int:
        """Tokens before the first word."""

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters."""

    def why_unchanged(self, layer: int) -> str | None:
        """Why nothing can be added to what block `layer` attends by, or None where it can."""

    def tokenize(self, texts: Sequence[str], reserve: int = 0) -> Tensor:
        """Texts to ids (N, L - reserve)."""

    def words(self, ids: Tensor) -> Tensor:
        """Ids (N, L) to word embeddings (N, L, D)."""

    def lengths(self, ids: Tensor) -> Tensor:
        """Tokens up to the end token, which is counted, (N,)."""


class Outputs(NamedTuple):
    """What a model with text features as classifier says of a batch, for losses that look at more than logits.

    Attributes:
        logits: (B, C).
        image: prompted image features, L2-normalised, (B, F).
        text: prompted features of the classes, L2-normalised, (C, F) or (B, C, F).
        scale: what similarities are multiplied by.
        frozen_image: image features of the model without the method, (B, F), where the method `needs_frozen`.
        frozen_text: features of the hand-written templates without the method, (C, F), likewise.
    """

    logits: Tensor
    image: Tensor
    text: Tensor
    scale: Tensor
    frozen_image: Tensor | None
    frozen_text: Tensor | None


class Method(nn.Module):
    """What is learned beside the head. This base learns nothing.

    A subclass with a `name` is a method that users can ask for; the keyword-only arguments of its
    constructor are its options. It is made with the image tower and, where the model has one, the text tower.

    Attributes:
        name: as published, lower case with hyphens.
        source: the paper, for tables and cards.
        head: "linear" for a trained linear head, "text" for class names as classifier, where not asked otherwise.
        heads: those that the method can be used with.
        enters: the blocks before which new image prompts enter, in place of those that were there.
        enters_before_norm: image prompts of block 0 go through CLIP's norm before the blocks, as the image does.
        text_enters: the blocks before which text prompts take the places of the learned context.
        num_context: places of learned context behind a text's start tokens.
        template: what class names are put in; None for the data set's templates, whose features are averaged.
        image_change: a layer and the parts of its block, opened, to those that take their place in the image tower;
            None leaves blocks as they are.
        text_change: likewise in the text tower.
        looks: when `look` must be called: "never", "once" before the first epoch, or before each of the "epochs".
        prompts_image: image features depend on what is learned.
        prompts_text: text features depend on what is learned.
        conditional: text features depend on the image.
        needs_images: `initialise` must be called with tokens of training images before the first step.
        needs_features: `prepare` must be called with features of the training images before the first step.
        averages_epochs: what is learned is whole after the last epoch alone, which is therefore the one that is kept.
        searches: `search` must be called with features of validation images, where there are any, after training.
        needs_frozen: the loss looks at what the model says without the method.
        whole_steps: set while steps are taken that may have several batches and processes: the loss leaves to
            `correct` what it takes the gradient of a whole step for.
        share: what the mean over this process's images counts for in that of a step.
        frozen_templates: what class names are put in for `Outputs.frozen_text`; None for the data set's templates.
        frozen_mean: whether features of several such templates are averaged "normalised" or "raw".
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    head: ClassVar[Literal["linear", "text"]] = "linear"
    heads: ClassVar[tuple[str, ...]] = ("linear", "text")
    enters: frozenset[int] = frozenset()
    enters_before_norm: bool = False
    text_enters: frozenset[int] = frozenset()
    num_context: int = 0
    template: str | None = None
    image_change: Callable[[int, Any], Any] | None = None
    text_change: Callable[[int, Any], Any] | None = None
    looks: Literal["never", "once", "epochs"] = "never"
    prompts_image: bool = False
    prompts_text: bool = False
    conditional: bool = False
    needs_images: bool = False
    needs_features: bool = False
    averages_epochs: bool = False
    searches: bool = False
    needs_frozen: bool = False
    whole_steps: bool = False
    share: float = 1.0
    frozen_templates: tuple[str, ...] | None = None
    frozen_mean: Literal["normalised", "raw"] = "normalised"

    def __init__(self, tower: Encoder | None = None, text: TextEncoder | None = None) -> None:
        super().__init__()

    def set_image_size(self, height: int, width: int) -> None:
        """Called once, when a model for images of so many pixels is made."""

    def pixels(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) as the encoder is given them."""
        return images

    def make_head(self) -> nn.Module | None:
        """Features (B, F) to logits (B, C), in the place of a new linear head; None for that."""
        return None

    def look(self, features: Tensor, labels: Tensor) -> None:
        """Set what is not trained from features of the training images (N, F), as they are now, and labels (N,)."""

    def prompts(self, layer: int, batch: int) -> Tensor:
        """The image prompts that enter before block `layer`, (1 or batch, P, D)."""
        raise LookupError(f"{self.name} has no image prompts for block {layer}")

    def plain(self, layer: int, x: Tensor) -> Tensor:
        """The definition: the whole sequence (B, N, D) that block `layer` is given, prompts included."""
        return x

    def strip(self, x: Tensor) -> Tensor:
        """The sequence of the plain form after the last block, without its prompts."""
        return x

    def context(self, features: Tensor | None) -> Tensor | None:
        """Learned context behind a text's start tokens, (1, n, D), or (B, n, D) for image features (B, F)."""
        return None

    def text_prompts(self, layer: int) -> Tensor:
        """What takes the places of the context before block `layer`, (1, n, D)."""
        raise LookupError(f"{self.name} has no text prompts for block {layer}")

    def codes(self, ids: Tensor, lengths: Tensor, start: int) -> Tensor:
        """What stands at each place of texts, (N, L): an id of the vocabulary, or -2 - j for vector j of the context.

        Vectors are counted through where each text has context of its own.

        Args:
            ids: (N, L - num_context).
            lengths: tokens of each text up to its end token, without context, (N,).
            start: tokens before the first word.
        """
        context = (-2 - torch.arange(self.num_context)).expand(len(ids), -1)
        return torch.cat([ids[:, :start], context, ids[:, start:]], dim=1)

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """The definition: whole texts as word embeddings (N or G · N, L, D), and how long each is."""
        context, words, lengths = self.context(features), text.words(ids), text.lengths(ids)
        if context is None:
            return words, lengths
        rows = _inserted(words, context, text.start)
        return rows, lengths.repeat(len(rows) // len(lengths)) + context.shape[1]

    def plain_text(self, layer: int, x: Tensor, start: int) -> Tensor:
        """The definition: the whole texts (N, L, D) that block `layer` is given, prompts included."""
        if layer not in self.text_enters:
            return x
        prompts = self.text_prompts(layer).expand(len(x), -1, -1)
        return torch.cat([x[:, :start], prompts, x[:, start + prompts.shape[1] :]], dim=1)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """L2-normalised features (B, F) and (C, F) or (B, C, F) to logits (B, C)."""
        if text.ndim == 3:
            return scale * torch.einsum("bf,bcf->bc", image, text)
        return scale * image @ text.T

    def loss(self, outputs: Outputs, labels: Tensor, label_smoothing: float) -> Tensor:
        """Of a batch, where text features are the classifier."""
        return F.cross_entropy(full_precision(outputs.logits), labels, label_smoothing=label_smoothing)

    def tuned(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """The parameters of the backbone itself that are trained."""
        return ()

    @property
    def why_no_captions(self) -> str | None:
        """Why what is learned has no place where images are compared with texts, or None where it has one."""
        if self.conditional:
            return "texts have no features of their own with it, as its context depends on the image"
        if self.needs_features or type(self).logits is not Method.logits:
            return "what it learns belongs to classes"
        return None

    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Set prompts from what each block of the frozen backbone is given, (B, N, D) a block."""

    def prepare(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> None:
        """Set what is learned from L2-normalised features of all training images (N, F) and of the classes (C, F)."""

    def search(self, image: Tensor, labels: Tensor, text: Tensor, scale: Tensor) -> float | None:
        """Choose what is not trained by L2-normalised features of validation images (M, F) and of classes (C, F)."""

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Called before tensors are loaded, with them by name: those that training data give their size change it.

        They change their `data`, so that an optimiser that was made for them knows them still.
        """

    def set_num_classes(self, num_classes: int) -> None:
        """Called once, when a model with so many classes is made."""

    def correct(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Called before a step of the optimizer, when the gradient of the whole step is there; `whole_steps` is set.

        Args:
            mean: of a tensor over all processes.
        """

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after epoch 1, 2, … of `epochs`, before it is evaluated."""

    def check_new_classes(self) -> None:
        """Called before the classes are changed.

        Raises:
            VptError: what was learned belongs to the classes that it was learned for.
        """


def _inserted(words: Tensor, context: Tensor, start: int) -> Tensor:
    """Each of G contexts (G, n, D) behind the start tokens of N texts (N, L, D): (G · N, L + n, D)."""
    count = len(words)
    words = words.repeat(len(context), 1, 1)
    context = context.to(words.dtype).repeat_interleave(count, dim=0)
    return torch.cat([words[:, :start], context, words[:, start:]], dim=1)
