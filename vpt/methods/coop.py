"""Context Optimization (CoOp), Zhou et al., IJCV 2022, https://arxiv.org/abs/2109.01134."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder
from vpt.precision import full_precision

DEFAULT_TOKENS = 16


class LearnedContext(Method):
    """A text is [start tokens, context, class name, ".", end token], of which the context is learned.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.

    Attributes:
        pads: more tokens than `init` has are allowed: zeros stand before its words.
        values: context before the image is looked at, (1, n, D), or (C, n, D) with one for each class.

    Raises:
        VptError: no text encoder, no place for so many tokens, or words that are not `num_tokens` tokens.
    """

    head = "text"
    heads = ("text",)
    prompts_text = True
    template = "{}."
    pads: ClassVar[bool] = False

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = "a photo of a",
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(tower, text)
        if text is None:
            raise VptError(f"{self.name} learns context of class names: make it from an image-text model.")
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
        if self._init is not None and (count > self.num_context or (count < self.num_context and not self.pads)):
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


class CoOp(LearnedContext):
    """Context that all classes share, or that each has for itself, before, around or behind the class name.

    Args:
        tower: the image encoder, which is left as it is.
        text: the text encoder.
        init: words that the context begins as, e.g. "a photo of a"; None for N(0, 0.02).
        num_tokens: tokens of context n; by default as many as `init` has, or 16 without words.
        csc: class-specific context, one for each class (equation 4 with its own vectors); unified without it.
        position: of the class name: at the end as in equation 2, in the middle as in equation 3, the first n // 2
            tokens before it, or in front of the context, as in the paper's code.
    """

    name = "coop"
    source = "Zhou et al., IJCV 2022"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        init: str | None = None,
        csc: bool = False,
        position: Literal["end", "middle", "front"] = "end",
        **context: Any,
    ) -> None:
        super().__init__(tower, text, init=init, **context)
        self.csc = csc
        self.position = position
        self.before = {"end": self.num_context, "middle": self.num_context // 2, "front": 0}[position]
        self._stop = 0 if text is None or position == "end" else _full_stop(text, position)

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


@torch.no_grad()
def word_embeddings(text: TextEncoder, words: str) -> Tensor:
    """Embeddings (n, D) of the n tokens of `words`, in float32 or more; errors as those of `token_ids`."""
    ids = token_ids(text, words)
    device = next(iter(dict(text.named_parameters()).values())).device
    return full_precision(text.words(ids[None].to(device))[0])


def token_ids(text: TextEncoder, words: str) -> Tensor:
    """The n tokens of `words`, (n,).

    Raises:
        VptError: there are none, they do not stay the same before other words, or there are too many.
    """
    with torch.device("cpu"):
        ids, rest = text.tokenize([f"{words.strip()} x."]), text.tokenize(["x."])
    start, length = text.start, text.context_length
    for count in range(1, length - start - 2):
        # A text that begins with these tokens goes on as it would without them.
        if torch.equal(torch.cat([ids[:, :start], ids[:, start + count :]], dim=1), rest[:, : length - count]):
            return ids[0, start : start + count]
    raise VptError(f"init={words!r} cannot be context: give at least one word, and no more than a text has places for.")


def _full_stop(text: TextEncoder, position: str) -> int:
    """The token of a "." that stands by itself.

    Raises:
        VptError: the encoder does not end a text behind it.
    """
    with torch.device("cpu"):
        ids = text.tokenize(["x."])
    if int(text.lengths(ids)) != text.start + 3:
        raise VptError(f"position={position!r}: this text encoder does not tell where names end; use position='end'.")
    return int(ids[0, text.start + 1])
