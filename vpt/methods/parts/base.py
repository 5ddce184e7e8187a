"""The kinds of parts; each base is a part that does nothing, and says what the model asks of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vpt.methods.parts.encoders import Encoder, TextEncoder


class Part(nn.Module):
    """What is learned at one place of a model, or done with it at one moment.

    Attributes:
        claims: places that no other part of a model may take. Two methods whose parts claim different ones combine.
        averages_epochs: what is learned is whole after the last epoch alone, which is therefore the one that is kept.
    """

    claims: frozenset[str] = frozenset()
    averages_epochs: bool = False

    def set_num_classes(self, num_classes: int) -> None:
        """Called once, when a model with so many classes is made."""

    def set_image_size(self, height: int, width: int) -> None:
        """Called once, when a model for images of so many pixels is made."""

    def check_new_classes(self) -> None:
        """Called before the classes are changed.

        Raises:
            VptError: what was learned belongs to the classes that it was learned for.
        """

    def set_classes(self, places: Sequence[int] | None) -> None:
        """Called when the classes were changed.

        Args:
            places: of each class in use its number among those that were trained, -1 for one that was not; None where
                they are the same classes in the same order.
        """

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Called before tensors are loaded, with them by name: those that training data give their size change it.

        They change their `data`, so that an optimiser that was made for them knows them still.
        """

    def loaded(self) -> None:
        """Called when saved tensors were loaded: what was learned is not to begin anew."""

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after epoch 1, 2, … of `epochs`, before it is evaluated."""


class Pixels(Part):
    """What becomes of images before the encoder."""

    claims = frozenset({"pixels"})

    def pixels(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) as the encoder is given them."""
        return images


class Head(Part):
    """Features (B, F) to logits (B, C), in the place of a new linear head.

    Attributes:
        looks: when `look` must be called: "never", "once" before the first epoch, or before each of the "epochs".
    """

    claims = frozenset({"linear head"})
    looks: Literal["never", "once", "epochs"] = "never"

    def look(self, features: Tensor, labels: Tensor) -> None:
        """Set what is not trained from features of the training images (N, F), as they are now, and labels (N,)."""


class Entering(Part):
    """What enters some of the blocks, each with its own.

    Attributes:
        enters: those blocks.
    """

    enters: frozenset[int] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What its base says of all blocks at once is not what it says of each.
        if {"prompts", "entering", "keys_values"} & vars(cls).keys() and "for_blocks" not in vars(cls):
            cls.for_blocks = Entering.for_blocks  # type: ignore[method-assign]

    def for_blocks(self, dtype: torch.dtype) -> Mapping[int, Any]:
        """What enters each block, as it is asked for block by block, of all of them in fewer operations.

        Only where it depends neither on images nor on classes. Empty where it is asked for block by block, as it may be
        always, and is of a part that says what enters a block otherwise than the one that it derives from, and not
        this.
        """
        return {}


class ImagePrompts(Entering):
    """Tokens that enter the image encoder.

    The sequence before block i is [prefix, P_i, patches] or [prefix, patches, P_i]. Prompts have no position. Where the
    next block has none of its own, they are carried on.

    Attributes:
        enters: the blocks before which new prompts enter, in place of those that were there.
        before_norm: prompts of block 0 go through CLIP's norm before the blocks, as the image does.
        behind: prompts stand behind the patches, and not behind the prefix. The fast form does not depend on it.
        looks_back: what enters depends on what the block before made of the last prompts, which are then advanced.
        looks_at_image: what enters depends on the image's tokens.
        read_out: what the last block makes of its prompts is read out too: its mean after the last norm, (B, D), stands
            behind the features in what classifiers of `lengths` are given.
        needs_images: `initialise` must be called with tokens of training images before the first step.
    """

    claims = frozenset({"image prompts"})
    before_norm: bool = False
    behind: bool = False
    looks_back: bool = False
    looks_at_image: bool = False
    read_out: bool = False
    needs_images: bool = False

    def __init__(self, tower: Encoder | None = None) -> None:
        super().__init__()
        self.prefix = 0 if tower is None else tower.prefix
        # A bound method: the tower is no part of the method, and is neither saved nor counted with it.
        self._pre_norm: Callable[[Tensor], Tensor] = _same if tower is None else tower.pre_norm

    @property
    def fixed(self) -> bool:
        """What enters is the same for all images."""
        return not (self.looks_back or self.looks_at_image)

    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Set prompts from what each block of the frozen backbone is given, (B, N, D) a block."""

    def prompts(self, layer: int, batch: int) -> Tensor:
        """What enters before block `layer` where it is `fixed`, (1 or batch, P, D)."""
        raise LookupError(f"no image prompts enter before block {layer}")

    def made(self, layer: int, given: Tensor, found: Tensor) -> Tensor:
        """What counts as `last` for block `layer`, (B, P, D), where prompts look back: by default what was found.

        Args:
            layer: one of `enters`.
            given: the prompts that the block before was given, (1 or B, P, D).
            found: what it made of them, (B, P, D).
        """
        return found

    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        """What enters before block `layer`, (1 or B, P, D), after CLIP's norm where it goes through it.

        Args:
            layer: one of `enters`.
            x: the image's tokens before the block, (B, N, D).
            last: what the block before made of its prompts, (B, P, D), where it had any and they were advanced.
        """
        return self._normed(layer, self.prompts(layer, x.shape[0]).to(x.dtype))

    def _normed(self, layer: int, prompts: Tensor) -> Tensor:
        return self._pre_norm(prompts) if layer == 0 and self.before_norm else prompts

    def plain(self, layer: int, x: Tensor, given: Tensor | None = None) -> Tensor:
        """The definition: the whole sequence that block `layer` is given, put into what the block before gave.

        Args:
            layer: from 0 on.
            x: what the block before gave.
            given: what it was given.
        """
        if layer not in self.enters:
            return x
        last, place = None, self.prefix
        if layer > min(self.enters):
            own = self.strip(x)
            count = x.shape[1] - own.shape[1]
            start = own.shape[1] if self.behind else place
            last = x[:, start : start + count]
            if given is not None and self.looks_back:
                last = self.made(layer, given[:, start : start + count], last)
            x = own
        found = self.entering(layer, x, last).to(x.dtype).expand(x.shape[0], -1, -1)
        place = x.shape[1] if self.behind else place
        return torch.cat([x[:, :place], found, x[:, place:]], dim=1)

    def count(self) -> int:
        """P, how many there are before a block."""
        return 0

    def own(self, x: Tensor) -> Tensor:
        """The prompts of a sequence in the plain form."""
        return x[:, -self.count() :] if self.behind else x[:, self.prefix : self.prefix + self.count()]

    def strip(self, x: Tensor) -> Tensor:
        """A sequence with prompts in the plain form, without them."""
        count = self.count() if self.enters else 0
        if not count:
            return x
        return x[:, :-count] if self.behind else torch.cat([x[:, : self.prefix], x[:, self.prefix + count :]], dim=1)


class KeysValues(Entering):
    """Keys and values that the tokens of the image encoder attend to, which come from no token.

    Attributes:
        enters: the blocks that have them.
    """

    claims = frozenset({"image keys and values"})

    def keys_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of block `layer`, (1, M, heads, d) each."""
        raise LookupError(f"no keys and values enter block {layer}")


class TextPrompts(Entering):
    """Vectors that enter the text encoder: context of block 0 among the words, and what takes its places later.

    Attributes:
        num_context: places of context behind a text's start tokens.
        enters: the blocks, from 1 on, before which others take the places of the context.
        conditional: context depends on the image.
        then_at: the block from which on something else stands in the texts, as `codes_then` tells: vectors of each
            text's own, or more of them than before.
        lengthens: by so many places texts are longer from that block on.
        looks_at_classes: what enters depends on the features of the class names in hand-written templates, so that
            other texts are not encoded.
    """

    claims = frozenset({"text prompts"})
    num_context: int = 0
    conditional: bool = False
    then_at: int | None = None
    lengthens: int = 0
    looks_at_classes: bool = False

    def context(self, features: Tensor | None) -> Tensor | None:
        """Learned context behind a text's start tokens, (1, n, D), or (B, n, D) for image features (B, F)."""
        return None

    def prompts(self, layer: int, classes: Tensor | None = None) -> Tensor:
        """What takes the places of the context before block `layer`, (1, n, D).

        Args:
            layer: one of `enters`.
            classes: L2-normalised features (C, F) of the class names in hand-written templates, without the method,
                where it looks at them.
        """
        raise LookupError(f"no text prompts enter before block {layer}")

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

    def codes_then(self, codes: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """What stands in texts from block `then_at` on.

        Args:
            codes: what stood in them before, (N, L).
            start: tokens before the first word.

        Returns:
            Codes (N, L + lengthens), and where each of those stood before, likewise, -1 where a vector enters.
        """
        raise LookupError("the texts stay as they are")

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """The definition: whole texts as word embeddings (N or G · N, L, D), and how long each is."""
        context, words, lengths = self.context(features), text.words(ids), text.lengths(ids)
        if context is None:
            return words, lengths
        rows = _inserted(words, context, text.start)
        return rows, lengths.repeat(len(rows) // len(lengths)) + context.shape[1]

    def plain(self, layer: int, x: Tensor, start: int, classes: Tensor | None = None) -> Tensor:
        """The definition: the whole texts (N, L, D) that block `layer` is given, prompts included."""
        if layer not in self.enters:
            return x
        prompts = self.prompts(layer, classes).expand(x.shape[0], -1, -1)
        return torch.cat([x[:, :start], prompts, x[:, start + prompts.shape[1] :]], dim=1)


class Change(Part):
    """What is added inside the blocks of one encoder, each of which is given opened (`vpt.towers.base.Opened`).

    Attributes:
        on: the encoder.
        linear: in evaluation mode all that is added is linear in what a stage of the block is given, so that it can be
            merged with the stage's weights.
        on_grid: it looks at where patches stand, and is told by the `grid` of the opened block.
    """

    on: Literal["image", "text"] = "image"
    linear: bool = False
    on_grid: bool = False

    def change(self, layer: int, block: Any) -> Any:
        """Block `layer` with what is learned in it, from the block as the library, or a change before, has it."""
        return block


class Ends(Part):
    """Other weights for what stands before and behind the blocks of the image encoder, made of its own."""

    def weights(self, own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Parameters, by name, to call `embed` and `readout` of the encoder with; of `own` those that differ.

        A bias that a layer lacks may be among them.
        """
        return {}


class Side(Part):
    """A network beside the image encoder: it looks at what the blocks give, and makes the tokens that are read out.

    The blocks are run without a backward pass, so that nothing else may be learned in or before them.
    """

    claims = frozenset({"place beside the image encoder"})

    def begin(self, x: Tensor) -> Tensor:
        """What the network makes of the tokens before block 0, (B, N, D), its own affair."""
        raise NotImplementedError

    def step(self, layer: int, side: Tensor, x: Tensor) -> Tensor:
        """What becomes of it beside block `layer`, which gives x, (B, N, D)."""
        raise NotImplementedError

    def end(self, side: Tensor, x: Tensor) -> Tensor:
        """The tokens that are read out, of what the last block gives, (B, N, D)."""
        raise NotImplementedError


class Tuned(Part):
    """Which parameters of the backbone itself are trained."""

    def parameters_of(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """Those of the image encoder, and of the text encoder where the model has one."""
        return ()


def _inserted(words: Tensor, context: Tensor, start: int) -> Tensor:
    """Each of G contexts (G, n, D) behind the start tokens of N texts (N, L, D): (G · N, L + n, D)."""
    count = len(words)
    words = words.repeat(len(context), 1, 1)
    context = context.to(words.dtype).repeat_interleave(count, dim=0)
    return torch.cat([words[:, :start], context, words[:, start:]], dim=1)


def _same(x: Tensor) -> Tensor:
    return x
