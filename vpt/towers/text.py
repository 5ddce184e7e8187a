"""A frozen text encoder: words and positions apart, so that prompts enter between them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vpt.errors import VptError
from vpt.towers.base import Tower

Tokenizer = Callable[..., Tensor]
Parts = Sequence[tuple[Tensor, int]]

# What it costs to take texts in one more part, in tokens that could be advanced meanwhile; a GPU that is given little
# work spends its time on starting it.
PART_CPU, PART_GPU = 32, 2048

# How many times the context length a text is looked at, to tell whether it is longer than that.
LONG = 8


@dataclass(frozen=True)
class Texts:
    """Texts as block 0 is given them: what all of them begin with, and what follows it in each.

    Attributes:
        prefix: (G, P, D) with positions; each of the G rows is shared by the N texts. P may be 0.
        rest: (G · N, S, D) with positions, the texts of a prefix one after another.
        seen: which tokens each token of `rest` sees, (S, P + S) or (N, S, P + S) booleans, the prefix first; None
            where every token sees all of them.
        read: row of `rest` that is read out, (G · N,).
        parts: the texts of a prefix by similar length, each part with what it needs of the S tokens; where there are
            none all texts need all tokens.
    """

    prefix: Tensor
    rest: Tensor
    seen: Tensor | None
    read: Tensor
    parts: Parts = ()


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

    def needed(self, lengths: Tensor) -> int:
        """Tokens that must be kept of texts of these lengths (N,) for their features to stay what they are."""
        return int(lengths.max()) if self.causal else self.context_length

    def arrange(self, prefix: Tensor, rest: Tensor, lengths: Tensor) -> Texts:
        """Texts for block 0, from word embeddings: positions are added, and it is said what sees what.

        Args:
            prefix: (G, P, D), what all texts begin with; P is 0 in an encoder that is not causal.
            rest: (N or G · N, S, D), what follows it in each text.
            lengths: (N,) or (G · N,), tokens of each text up to its end token, prefix included; best on the CPU, since
                a GPU would have to be waited for.
        """
        before, after = prefix.shape[1], rest.shape[1]
        positions = self.positions()[: before + after].to(rest.dtype)
        rest = rest + positions[before:]
        if len(rest) < len(prefix) * len(lengths):
            rest = rest.repeat(len(prefix), 1, 1)
        read = (lengths - 1 - before).repeat(len(rest) // len(lengths)).to(rest.device, non_blocking=True)
        seen = torch.ones(after, before + after, dtype=torch.bool, device=rest.device).tril(before)
        parts = in_parts(lengths - before, len(prefix), rest.device) if self.causal and before else ()
        return Texts(prefix + positions[:before], rest, seen if self.causal else None, read, parts)

    def embed(self, ids: Tensor) -> Texts:
        """Token ids (N, L) as block 0 is given them, nothing shared and nothing left out."""
        words = self.words(ids)
        return self.arrange(words[:1, :0], words, self.lengths(ids))

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


def in_parts(lengths: Tensor, times: int = 1, device: torch.device | None = None) -> Parts:
    """Texts of `lengths` (N,), each of which occurs `times`, in parts that are as long as their longest text.

    Where to part them is what makes padding and the price of parts together the least.
    """
    device = device or lengths.device
    price = (PART_CPU if device.type == "cpu" else PART_GPU) / times
    order = lengths.argsort(stable=True)
    ordered: list[int] = lengths[order].tolist()
    last = len(ordered)
    ends = [end for end in range(1, last + 1) if end == last or ordered[end] != ordered[end - 1]]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for end in ends:
        best[end] = min(
            (cost + (end - start) * ordered[end - 1] + price, (*cuts, end)) for start, (cost, cuts) in best.items()
        )
    cuts = best[last][1]
    # Within a part in the order that they came in, so that a single part leaves them as they are.
    parts = ((order[start:end].sort().values, ordered[end - 1]) for start, end in zip((0, *cuts), cuts, strict=False))
    return [(rows.to(device, non_blocking=True), length) for rows, length in parts]
