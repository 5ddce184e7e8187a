"""Tokens of one space that enter the last blocks of both encoders, and are read out of the image encoder."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vpt.methods.parts.base import ImagePrompts, Part, TextPrompts
from vpt.methods.parts.classifier import similarities
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.objective import Around, Objective
from vpt.methods.parts.outputs import Outputs
from vpt.methods.parts.rows import OfTrained
from vpt.normalised import normalised
from vpt.precision import full_precision


class SharedSpace(Part):
    """n tokens R of N(0, 0.02), which belong to no encoder.

    Args:
        num_tokens: n.
        size: of each.
    """

    def __init__(self, num_tokens: int, size: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.randn(num_tokens, size) * 0.02)


class TextRepresentation(TextPrompts):
    """They enter behind the start token before one block, and others take their places before each block behind it.

    Args:
        text: the text encoder.
        space: the tokens, a part of their own.
        blocks: how many of the last blocks they enter.
    """

    def __init__(self, text: TextEncoder, space: SharedSpace, blocks: int) -> None:
        super().__init__()
        self.then_at = text.depth - blocks
        self.enters = frozenset(range(self.then_at, text.depth))
        self.lengthens = len(space.values)
        self._space = (space,)
        self.project = _alike(space.values.shape[1], text.width, blocks)

    def prompts(self, layer: int, classes: Tensor | None = None) -> Tensor:
        """Those of block `layer`, (1, n, D)."""
        assert self.then_at is not None
        found: Tensor = self.project[layer - self.then_at](self._space[0].values[None])
        return found

    def codes_then(self, codes: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """The tokens behind the start token, and all else behind them."""
        count, size = codes.shape

        def entered(row: Tensor, here: Tensor) -> Tensor:
            return torch.cat([row[:, :start], here.expand(count, -1), row[:, start:]], dim=1)

        places = torch.arange(size).expand(count, -1)
        origin = entered(places, torch.full((self.lengthens,), -1))
        return entered(codes, -2 - torch.arange(self.lengthens)), origin

    def plain(self, layer: int, x: Tensor, start: int, classes: Tensor | None = None) -> Tensor:
        """The definition: texts (N, L, D) with those of block `layer` behind the start token."""
        if layer not in self.enters:
            return x
        behind = start if layer == self.then_at else start + self.lengthens
        return torch.cat([x[:, :start], self.prompts(layer).to(x.dtype).expand(len(x), -1, -1), x[:, behind:]], dim=1)


class ImageRepresentation(ImagePrompts):
    """They enter behind the class token before each of the last blocks, and are read out after the last one.

    Args:
        tower: the image encoder.
        space: the tokens, a part of their own.
        blocks: how many of the last blocks they enter.
    """

    read_out = True

    def __init__(self, tower: Encoder, space: SharedSpace, blocks: int) -> None:
        super().__init__(tower)
        self.first = tower.depth - blocks
        self.enters = frozenset(range(self.first, tower.depth))
        self._space = (space,)
        self.project = _alike(space.values.shape[1], tower.width, blocks)

    def prompts(self, layer: int, batch: int) -> Tensor:
        """Those of block `layer`, (1, n, D)."""
        found: Tensor = self.project[layer - self.first](self._space[0].values[None])
        return found

    def count(self) -> int:
        """n."""
        return len(self._space[0].values)


class Representations(OfTrained):
    """alpha · f_c and (1 - alpha) · f_r for trained classes, f_c for others; f_c alone in training.

    Args:
        tower: the image encoder.
        name: of the method, for errors.
        alpha: share of f_c.

    Attributes:
        project: of the mean of tokens after the last norm to f_r, (D, F).
    """

    lengths = True

    def __init__(self, tower: Encoder, name: str, alpha: float) -> None:
        super().__init__(name)
        self.alpha, self.size = alpha, tower.num_features
        self.project = nn.Parameter(torch.randn(tower.width, tower.num_features) * tower.width**-0.5)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Of class features with the mean of tokens behind them, (B, F + D)."""
        of_class = similarities(normalised(image[:, : self.size]), normalised(text), scale)
        if self.training:
            return self.chosen(of_class.T, of_class.T).T
        mixed = self.alpha * of_class + (1 - self.alpha) * self.of_tokens(image, text, scale)
        if self.places is None:
            return mixed
        return torch.where(self.places >= 0, mixed, of_class)

    def of_tokens(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """Similarities of f_r."""
        found = image[:, self.size :].to(self.project.dtype) @ self.project
        return similarities(normalised(found), normalised(text).to(found.dtype), scale)


class RepresentationLoss(Objective):
    """1 - alpha of the cross entropy goes over from f_c to f_r, and f_c and texts stay near those of the frozen model.

    Args:
        readouts: with alpha.
        weight: of each of the two distances.
    """

    def __init__(self, readouts: Representations, weight: float) -> None:
        super().__init__()
        self.weight = weight
        # They are a part of their own.
        self._readouts = (readouts,)

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """The loss with all four terms."""
        (readouts,) = self._readouts
        assert outputs.raw_image is not None
        assert outputs.raw_text is not None
        assert outputs.frozen_image is not None
        assert outputs.frozen_text is not None
        of_tokens = readouts.of_tokens(outputs.raw_image, outputs.raw_text, outputs.scale)
        found = so_far + (1 - readouts.alpha) * (around.entropy(of_tokens) - around.entropy(outputs.logits))
        for now, frozen in ((outputs.image, outputs.frozen_image), (outputs.text, outputs.frozen_text)):
            found = found + self.weight * (1 - full_precision((now * frozen).sum(-1)).mean())
        return found


def _alike(inputs: int, outputs: int, count: int) -> nn.ModuleList:
    """So many layers, which begin as copies of one."""
    layer = nn.Linear(inputs, outputs)
    return nn.ModuleList([copy.deepcopy(layer) for _ in range(count)])
