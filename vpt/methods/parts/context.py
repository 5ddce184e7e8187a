"""Learned context: vectors among the word embeddings of a text, before block 0 of the text encoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import TextPrompts
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.words import full_stop, word_embeddings

DEFAULT_TOKENS = 16


class Context(TextPrompts):
    """A text is [start tokens, context, class name, ".", end token]; the same context stands in all texts.

    Args:
        text: the text encoder; None raises the error.
        name: of the method, for errors.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.
        pads: more tokens than `init` has are allowed: zeros stand before its words.

    Attributes:
        values: context before the image is looked at, (1, n, D), or (C, n, D) with one for each class.

    Raises:
        VptError: no text encoder, no place for so many tokens, or words that are not `num_tokens` tokens.
    """

    def __init__(
        self,
        text: TextEncoder | None,
        name: str,
        *,
        init: str | None = "a photo of a",
        num_tokens: int | None = None,
        pads: bool = False,
    ) -> None:
        super().__init__()
        if text is None:
            raise VptError(f"{name} learns context of class names: make it from an image-text model.")
        self._init: Tensor | None = None if init is None else word_embeddings(text, init)
        count = DEFAULT_TOKENS if self._init is None else len(self._init)
        self.num_context = count if num_tokens is None else num_tokens
        if self.num_context < 1:
            raise VptError(f"num_tokens={num_tokens} leaves no context to learn: give 1 or more.")
        if self.num_context + text.start + 3 > text.context_length:
            raise VptError(
                f"{self.num_context} tokens of context leave no place for class names in the {text.context_length} "
                f"of a text: set num_tokens to {text.context_length - text.start - 3} or fewer."
            )
        if self._init is not None and (count > self.num_context or (count < self.num_context and not pads)):
            raise VptError(f"init={init!r} is {count} tokens and num_tokens={num_tokens}: leave one of the two out.")
        self.width = text.width
        self.values = nn.Parameter(self._initial(1))

    def context(self, features: Tensor | None) -> Tensor:
        """`values`."""
        return self.values

    def _initial(self, sets: int) -> Tensor:
        """So many sets of context as training begins with, (sets, n, D)."""
        if self._init is None:
            return torch.randn(sets, self.num_context, self.width) * 0.02
        missing = self._init.new_zeros(self.num_context - len(self._init), self.width)
        return torch.cat([missing, self._init]).repeat(sets, 1, 1)


class PlacedContext(Context):
    """Context that all classes share, or that each has for itself, before, around or behind the class name.

    Args:
        text: the text encoder; None raises the error.
        name: of the method, for errors.
        init: as in `Context`.
        num_tokens: likewise.
        csc: class-specific context, one for each class.
        position: of the class name: at the end, in the middle, the first n // 2 tokens before it, or in front.
    """

    def __init__(
        self,
        text: TextEncoder | None,
        name: str,
        *,
        init: str | None,
        num_tokens: int | None,
        csc: bool,
        position: Literal["end", "middle", "front"],
    ) -> None:
        super().__init__(text, name, init=init, num_tokens=num_tokens)
        self.csc = csc
        self.position = position
        self.before = {"end": self.num_context, "middle": self.num_context // 2, "front": 0}[position]
        self._stop = 0 if text is None or position == "end" else full_stop(text, position)

    def set_num_classes(self, num_classes: int) -> None:
        """Class-specific context becomes one for each class, (C, n, D)."""
        if not self.csc:
            return
        if not num_classes:
            raise VptError("csc=True learns a context for each class, and there are none: name the classes.")
        self.values = nn.Parameter(self._initial(num_classes))

    def codes(self, ids: Tensor, lengths: Tensor, start: int) -> Tensor:
        """Context before, around or behind the name, the same for all texts or each text's own."""
        vectors = torch.arange(self.num_context)
        if self.csc:
            self._check_count(len(ids))
            vectors = vectors + torch.arange(len(ids))[:, None] * self.num_context
        tokens = torch.cat([ids, (-2 - vectors).expand(len(ids), -1)], dim=1)
        return tokens.gather(1, self._order(ids.shape[1], start, self._names(ids, lengths, start)))

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """[start tokens, context before the name, name, context behind it, ".", end token, padding] text by text."""
        words, lengths, rows = text.words(ids), text.lengths(ids), []
        for row, token, context, length in zip(words, ids.tolist(), self._for(words), lengths.tolist(), strict=True):
            # At the end no name need be told from what follows it.
            end = length - 2 if token[length - 2] == self._stop else length - 1
            name = text.start if self.position == "end" else end
            parts = [row[: text.start], context[: self.before], row[text.start : name], context[self.before :]]
            rows.append(torch.cat([*parts, row[name:]]))
        return torch.stack(rows), lengths + self.num_context

    def check_new_classes(self) -> None:
        """Class-specific context belongs to its class."""
        if self.csc:
            raise VptError("csc=True learned a context for each of its classes: train a unified one to change them.")

    def _for(self, words: Tensor) -> Tensor:
        """The context of each of N texts (N, L, D), (N, n, D)."""
        if self.csc:
            self._check_count(len(words))
        return self.values.to(words.dtype).expand(len(words), -1, -1)

    def _check_count(self, texts: int) -> None:
        if texts != len(self.values):
            raise VptError(f"csc=True has contexts for {len(self.values)} class names, and not for {texts} texts.")

    def _names(self, ids: Tensor, lengths: Tensor, start: int) -> Tensor:
        """How many tokens of each text, (N,), stand in front of the context where that is not before all of them.

        They are those before "." and the end token. A name whose last sign fuses with ".", as "crane (bird)" does in
        CLIP's tokenizer, stays whole: the token of both is its last one.
        """
        if self.position == "end":
            return torch.zeros_like(lengths)
        last = ids[torch.arange(len(ids)), lengths - 2]
        return lengths - start - 1 - (last == self._stop).long()

    def _order(self, length: int, start: int, names: Tensor) -> Tensor:
        """Which of [words, context] stands at each place of N texts, (N, L + n)."""
        place = torch.arange(length + self.num_context, device=names.device)
        behind = (start + self.before + names)[:, None]
        order = torch.where(place < start, place, length + place - start)
        order = torch.where((place >= start + self.before) & (place < behind), place - self.before, order)
        order = torch.where((place >= behind), length + place - start - names[:, None], order)
        return torch.where(place >= behind + self.num_context - self.before, place - self.num_context, order)


class ImageContext(Context):
    """Context each token of which is moved by one vector that a small network makes of the image.

    v_m(x) = v_m + h(x), where h is Linear-ReLU-Linear on L2-normalised image features (Zhou et al., CVPR 2022, section
    3.2). All images of a batch go through the text encoder together.

    Args:
        tower: the image encoder, whose features h is given.
        text: the text encoder; None raises the error.
        name: of the method, for errors.
        reduction: the hidden layer is so many times narrower than features.
        init: as in `Context`.
        num_tokens: likewise.
    """

    conditional = True

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None,
        name: str,
        *,
        reduction: int,
        init: str | None,
        num_tokens: int | None,
    ) -> None:
        super().__init__(text, name, init=init, num_tokens=num_tokens)
        hidden = max(1, tower.num_features // reduction)
        self.network = nn.Sequential(
            nn.Linear(tower.num_features, hidden), nn.ReLU(), nn.Linear(hidden, self.values.shape[-1])
        )

    def context(self, features: Tensor | None) -> Tensor:
        """Of images (B, F), (B, n, D); without them what all images share, (1, n, D)."""
        if features is None:
            return self.values
        # Features that were computed in half precision meet a network in full.
        return self.values + self.network(features.to(self.values.dtype))[:, None]

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """The texts of one image after another."""
        assert features is not None
        parts = [super(ImageContext, self).plain_sequences(text, ids, row[None]) for row in features]
        return torch.cat([rows for rows, _ in parts]), torch.cat([lengths for _, lengths in parts])
