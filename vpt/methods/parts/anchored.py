"""Learned context between words that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.context import Context
from vpt.methods.parts.encoders import TextEncoder
from vpt.methods.parts.words import token_ids


class AnchoredContext(Context):
    """A text is [start tokens, context, attribute, context, attribute, …, context, class name, ".", end token].

    Args:
        text: the text encoder; None raises the error.
        name: of the method, for errors.
        attributes: words with which the template of class names has to begin.
        num_tokens: tokens of context n before each attribute and before the class name.

    Raises:
        VptError: as `Context`, or no attributes.

    Attributes:
        values: context in its order, (1, n · (attributes + 1), D); before attributes it begins as N(0, 0.01), and
            before the name as N(0, 0.02).
        sizes: tokens of each attribute.
    """

    def __init__(self, text: TextEncoder | None, name: str, *, attributes: Sequence[str], num_tokens: int) -> None:
        if not attributes or not all(word.strip() for word in attributes):
            raise VptError(f"attributes={list(attributes)} anchor nothing: give one word or more.")
        super().__init__(text, name, init=None, num_tokens=num_tokens * (len(attributes) + 1))
        assert text is not None
        self.sizes = [len(token_ids(text, word)) for word in attributes]
        if self.num_context + sum(self.sizes) + text.start + 3 > text.context_length:
            raise VptError(
                f"attributes and {self.num_context} tokens of context leave no place for class names in the "
                f"{text.context_length} of a text: set num_tokens or attributes to fewer."
            )
        self.values = nn.Parameter(self.values.detach())
        with torch.no_grad():
            self.values[:, :-num_tokens] *= 0.5

    def codes(self, ids: Tensor, lengths: Tensor, start: int) -> Tensor:
        """Context before each attribute, and before the rest of the text."""
        context = (-2 - torch.arange(self.num_context)).expand(len(ids), -1)
        return self._between(ids, context, start)

    def plain_sequences(self, text: TextEncoder, ids: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Whole texts as word embeddings, and how long each is."""
        words = text.words(ids)
        context = self.values.to(words.dtype).expand(len(words), -1, -1)
        return self._between(words, context, text.start), text.lengths(ids) + self.num_context

    def _between(self, words: Tensor, context: Tensor, start: int) -> Tensor:
        """Words (N, L, …) with context (N, n · (attributes + 1), …) before each attribute and before the rest."""
        parts, place = [words[:, :start]], start
        pieces = context.chunk(len(self.sizes) + 1, dim=1)
        for piece, size in zip(pieces, [*self.sizes, words.shape[1] - start - sum(self.sizes)], strict=True):
            parts += [piece, words[:, place : place + size]]
            place += size
        return torch.cat(parts, dim=1)
