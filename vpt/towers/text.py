"""A frozen text encoder: words and positions apart, so that prompts enter between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.towers.base import Tower
from vpt.towers.packing import Layout, Texts, in_rows

Tokenizer = Callable[..., Tensor]

# How many times the context length a text is looked at, to tell whether it is longer than that.
LONG = 8


class TextTower(Tower):
    """A text encoder.

    A text is [start tokens, words, end token, padding]. In a causal encoder a token sees only those before it,
    so what all texts begin with can be advanced once for all of them, and what stands behind the token that is
    read out need not be there at all.

    Attributes:
        context_length: tokens L of the longest text, start and end included.
        causal: whether a token sees only those before it.
        tokenizer: texts to ids, (N, L); `context_length=` overrides L.
    """

    context_length: int
    causal: bool
    tokenizer: Tokenizer | None

    @cached_property
    def start(self) -> int:
        """How many tokens the tokenizer puts before the first word: CLIP's one, SigLIP's none. 1 without one."""
        if self.tokenizer is None:
            return 1
        with torch.device("cpu"):
            one, other = self.tokenizer(["a", "the"], context_length=self.context_length)
        return int((one == other).long().cumprod(0).sum())

    @abstractmethod
    def words(self, ids: Tensor) -> Tensor:
        """Token ids (N, L), on any device, to word embeddings (N, L, D), without positions."""

    @abstractmethod
    def positions(self) -> Tensor:
        """Position embeddings (L, D)."""

    @abstractmethod
    def lengths(self, ids: Tensor) -> Tensor:
        """How many tokens of ids (N, L) stand up to the end token, which is counted: (N,)."""

    @abstractmethod
    def readout(self, x: Tensor) -> Tensor:
        """The token that is read, after the last block (N, D), to features (N, F): final norm and projection."""

    def layout(self, codes: Tensor, lengths: Tensor) -> Layout:
        """What stands where in texts, and what sees what.

        Args:
            codes: of the token at each place, (N, S), as in `Layout`, on the CPU.
            lengths: tokens of each text up to its end token, (N,).
        """
        columns = torch.arange(codes.shape[1])
        needed = columns < lengths[:, None] if self.causal else torch.ones_like(codes, dtype=torch.bool)
        seen = columns <= columns[:, None]
        return Layout(codes, columns, needed, seen[None] if self.causal else None, lengths - 1, self.causal)

    def tokens(self, texts: Texts) -> Tensor:
        """What block 0 is given of texts, positions added, (R, L, D); of learned context the position alone counts."""
        words = self.words(texts.codes)
        return words + self.positions()[texts.positions].to(words.dtype)

    def complete(self, words: Tensor) -> Tensor:
        """What block 0 is given of whole texts, from their word embeddings (N, S, D)."""
        return words + self.positions()[: words.shape[1]].to(words.dtype)

    def embed(self, ids: Tensor) -> tuple[Tensor, Texts]:
        """Token ids (N, L) as block 0 is given them, nothing shared and nothing left out."""
        ids = ids.cpu()
        texts = in_rows(self.layout(ids, self.lengths(ids))).texts.to(self.positions().device)
        return self.tokens(texts), texts

    def tokenize(self, texts: Sequence[str], reserve: int = 0) -> Tensor:
        """Ids (N, L - reserve) of texts; longer ones are cut, and keep their end token.

        Args:
            texts: N of them.
            reserve: places to leave for learned context.

        Raises:
            VptError: the encoder has no tokenizer, or a text is empty.
        """
        if self.tokenizer is None:
            raise VptError("this text encoder came without a tokenizer: pass tokenizer=… to vpt.attach.")
        empty = [index for index, text in enumerate(texts) if not text.strip()]
        if empty:
            raise VptError(f"{len(empty)} of {len(texts)} texts are empty, first number {empty[0] + 1}: give words.")
        if not texts:
            return torch.zeros(0, self.context_length - reserve, dtype=torch.long)
        return self.tokenizer(list(texts), context_length=self.context_length - reserve)

    def vocabulary(self) -> list[str]:
        """Each token of the vocabulary as text, by id; one that does not end a word has a hyphen behind it.

        Raises:
            VptError: the tokenizer does not tell.
        """
        raise VptError("the tokenizer of this text encoder does not tell the words of its vocabulary.")

    def too_long(self, texts: Sequence[str], reserve: int = 0) -> int:
        """How many of `texts` have more tokens than `tokenize` keeps."""
        limit = self.context_length - reserve
        # No tokenizer makes more than a token of a byte, and start and end.
        doubtful = [text for text in texts if len(text.encode()) + 2 > limit]
        if not doubtful or self.tokenizer is None:
            return 0
        # A text that is cut has its end token where it had a word; encoders differ in what stands behind the end.
        ids = self.tokenizer(doubtful, context_length=LONG * self.context_length)
        return int((ids[:, :limit] != self.tokenizer(doubtful, context_length=limit)).any(dim=-1).sum())
