"""Independent vision-language prompting (IVLP), Rasheed et al., CVPR 2023, https://arxiv.org/abs/2212.03640.

As in the code of MaPLe (Khattak et al., CVPR 2023), whose baseline it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.base import Encoder, Method, TextEncoder
from vpt.methods.coop import word_embeddings


class BothSides(Method):
    """New prompts before each of the first blocks of both encoders; what becomes of the last flows on.

    Image prompts stand behind the patches. Those of block 0 have no position and go through CLIP's norm before
    the blocks; before the next blocks new ones take their places. Text prompts stand behind the start token: those
    of block 0 are word embeddings and get positions, and before the next blocks new ones take their places. Words
    of `init` beyond `num_context` stay in every text, frozen.

    Args:
        tower: the image encoder.
        text: the text encoder.
        num_tokens: image prompts P a block.
        num_context: text prompts n a block.
        depth: J, how many blocks of each encoder get prompts; no more than the shallower one has.
        image_depth: how many blocks of the image encoder do, in place of J; with 0 it has no prompts.
        text_depth: how many blocks of the text encoder do, in place of J, 1 or more.
        init: words whose embeddings the text prompts of block 0 begin as; None for N(0, 0.02).

    Attributes:
        image_depth: as it was given, or J.

    Raises:
        VptError: no text encoder, an option out of range, or words that are not `num_context` tokens.
    """

    head = "text"
    heads = ("text",)
    prompts_text = True
    enters_before_norm = True

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None,
        *,
        num_tokens: int,
        num_context: int,
        depth: int,
        init: str | None,
        image_depth: int | None = None,
        text_depth: int | None = None,
    ) -> None:
        super().__init__(tower, text)
        if text is None:
            raise VptError(f"{self.name} has prompts in the text encoder: make it from an image-text model.")
        for option, value in (("num_context", num_context), ("num_tokens", num_tokens)):
            if value < 1:
                raise VptError(f"{option}={value} leaves no prompt to learn: give 1 or more.")
        most = min(tower.depth, text.depth)
        if not 1 <= depth <= most:
            raise VptError(f"depth={depth}: {self.name} takes 1 to {most}, the blocks of the shallower encoder.")
        image_depth = depth if image_depth is None else image_depth
        text_depth = depth if text_depth is None else text_depth
        for side, value, least, blocks in (("image", image_depth, 0, tower.depth), ("text", text_depth, 1, text.depth)):
            if not least <= value <= blocks:
                raise VptError(f"{side}_depth={value}: {self.name} takes {least} to {blocks} blocks.")
        if num_context + text.start + 2 > text.context_length:
            raise VptError(f"num_context={num_context} leaves no place for words: a text has {text.context_length}.")
        self.image_depth = image_depth
        self.enters = frozenset(range(image_depth))
        self.prompts_image = image_depth > 0
        self.text_enters = frozenset(range(1, text_depth))
        self.num_tokens = num_tokens
        self.num_context = num_context
        first, self.template = (None, "{}.") if init is None else initial_words(text, init, num_context)
        values = torch.randn(text_depth, num_context, text.width) * 0.02
        if first is not None:
            values[0] = first
        self.text_values = nn.Parameter(values)
        # A bound method: the tower is no part of the method, and is neither saved nor counted with it.
        self._pre_norm = tower.pre_norm

    def plain(self, layer: int, x: Tensor) -> Tensor:
        """[prefix, patches, P_layer]: appended before block 0, put in place before the next ones."""
        if layer not in self.enters:
            return x
        prompts = self.prompts(layer, len(x)).to(x.dtype).expand(len(x), -1, -1)
        if layer == 0:
            return torch.cat([x, self._pre_norm(prompts)], dim=1)
        return torch.cat([self.strip(x), prompts], dim=1)

    def strip(self, x: Tensor) -> Tensor:
        """[prefix, patches]."""
        return x[:, : -self.num_tokens] if self.prompts_image else x

    def context(self, features: Tensor | None) -> Tensor:
        """Text prompts of block 0, (1, n, D)."""
        return self.text_values[:1]

    def text_prompts(self, layer: int) -> Tensor:
        """Text prompts of block `layer`, (1, n, D)."""
        return self.text_values[layer : layer + 1]


class IVLP(BothSides):
    """Prompts of each encoder, learned independently of the other's.

    Args:
        tower: the image encoder.
        text: the text encoder.
        num_tokens: image prompts a block.
        num_context: text prompts a block.
        depth: how many blocks of each encoder get prompts; by default all of the shallower one.
        image_depth: how many of the image encoder, where not `depth`; 0 prompts language only.
        text_depth: how many of the text encoder, where not `depth`; for images only there is vpt-deep.
        init: words that the text prompts of block 0 begin as; None for N(0, 0.02), as all others do.
    """

    name = "ivlp"
    source = "Rasheed et al., CVPR 2023"

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 2,
        num_context: int = 2,
        depth: int | None = None,
        image_depth: int | None = None,
        text_depth: int | None = None,
        init: str | None = "a photo of a",
    ) -> None:
        super().__init__(
            tower,
            text,
            num_tokens=num_tokens,
            num_context=num_context,
            depth=up_to(12, tower, text) if depth is None else depth,
            image_depth=image_depth,
            text_depth=text_depth,
            init=init,
        )
        self.image_values: nn.Parameter | None = None
        if self.prompts_image:
            self.image_values = nn.Parameter(torch.randn(self.image_depth, num_tokens, tower.width) * 0.02)

    def prompts(self, layer: int, batch: int) -> Tensor:
        """Image prompts of block `layer`, (1, P, D)."""
        assert self.image_values is not None
        return self.image_values[layer : layer + 1]


def up_to(depth: int, tower: Encoder, text: TextEncoder | None) -> int:
    """A published depth, or all blocks of the shallower encoder where it has fewer."""
    return min(depth, tower.depth, tower.depth if text is None else text.depth)


def initial_words(text: TextEncoder, words: str, num_context: int) -> tuple[Tensor, str]:
    """Embeddings (n, D) of the first `num_context` tokens of `words`, and the template of what follows them.

    Raises:
        VptError: the tokens do not end where a word ends, or there are fewer.
    """
    parts = words.split()
    for count in range(1, len(parts) + 1):
        found = word_embeddings(text, " ".join(parts[:count]))
        if len(found) == num_context:
            return found, " ".join([*parts[count:], "{}."])
    raise VptError(
        f"no words at the beginning of init={words!r} are num_context={num_context} tokens: give another number, "
        "or init=None for random context."
    )
