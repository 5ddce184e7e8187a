"""Context in whose places each class has its own from a block on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.context import Context
from vpt.methods.parts.encoders import TextEncoder


class QuickGELU(nn.Module):
    """x · σ(1.702 x), as in OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """x · σ(1.702 x)."""
        return x * torch.sigmoid(1.702 * x)


class ClassAware(Context):
    """`Context`, and before one block, in its places, n vectors that a network makes of each class's text feature.

    What texts begin with is the same for all classes until then, and advanced once for them; from then on each class
    has its own.

    Args:
        text: the text encoder; None raises the error.
        name: of the method, for errors.
        init: as in `Context`.
        num_tokens: likewise, n.
        block: the block, from 1 on; None for the ninth of twelve.
        reduction: the network's hidden layer is so many times narrower than features.

    Raises:
        VptError: as `Context`; a block that is not there, or a network without a hidden layer.

    Attributes:
        network: text features (C, F) to (C, n · D).
    """

    looks_at_classes = True

    def __init__(
        self,
        text: TextEncoder | None,
        name: str,
        *,
        init: str | None,
        num_tokens: int | None,
        block: int | None,
        reduction: int,
    ) -> None:
        super().__init__(text, name, init=init, num_tokens=num_tokens)
        assert text is not None
        chosen = min(8, 2 * text.depth // 3) if block is None else block
        if not 1 <= chosen < text.depth:
            raise VptError(f"block={chosen}: {name} takes 1 to {text.depth - 1}, blocks behind the first.")
        if not 1 <= reduction <= text.num_features:
            raise VptError(f"reduction={reduction} leaves no hidden layer: give 1 to {text.num_features}.")
        self.then_at = chosen
        self.enters = frozenset({chosen})
        hidden = text.num_features // reduction
        self.network = nn.Sequential(
            nn.Linear(text.num_features, hidden), QuickGELU(), nn.Linear(hidden, self.num_context * text.width)
        )

    def prompts(self, layer: int, classes: Tensor | None = None) -> Tensor:
        """The vectors of all classes, one class behind another, (1, C · n, D)."""
        assert classes is not None
        found: Tensor = self.network(classes.to(self.values.dtype))
        return found.view(1, -1, self.width)

    def codes_then(self, codes: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Each text's own vectors in the places of the context."""
        count, size = codes.shape
        origin = torch.arange(size).repeat(count, 1)
        places = slice(start, start + self.num_context)
        origin[:, places] = -1
        codes = codes.clone()
        codes[:, places] = -2 - torch.arange(count * self.num_context).view(count, -1)
        return codes, origin

    def plain(self, layer: int, x: Tensor, start: int, classes: Tensor | None = None) -> Tensor:
        """Each class's vectors in the places of the context of its text (C, L, D)."""
        if layer != self.then_at:
            return x
        own = self.prompts(layer, classes).view(len(x), -1, self.width).to(x.dtype)
        return torch.cat([x[:, :start], own, x[:, start + self.num_context :]], dim=1)
