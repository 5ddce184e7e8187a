"""What a method adds to an image's way through a tower, read off the only block loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vpt.loops import encode_images, fold
from vpt.methods.parts import Change as ChangePart
from vpt.methods.parts import Ends, ImagePrompts, Part, Pixels, Side
from vpt.model import Prompted
from vpt.towers.attention import Attended
from vpt.towers.base import Change, ImageTower

# What of a block may differ from row to row of a batch, beside its queries, keys and values.
STAGES = ("norm", "out", "feed", "post1", "post2")
MIXES = frozenset({*STAGES, "query_key_value", "key_value", "linear"})


@dataclass(frozen=True)
class Step:
    """What one block is given beside an image's own tokens, the same for every image.

    Attributes:
        keeps: the prompts that came out of the block before stay.
        enters: prompts that are advanced with the image from here on, (1, P, D).
        attended: what is merely attended to: keys and values, (1, M, heads, d), or tokens, (1, M, D).
        change: the method's part in the block.
    """

    keeps: bool
    enters: Tensor | None
    attended: Attended | Tensor | None
    change: Change

    @property
    def shape(self) -> tuple[bool, int, int, bool]:
        """What has to be alike where nothing is to be filled up."""
        return self.keeps, _length(self.enters), _length(self.attended), self.change is not None


Plan = tuple[Step, ...]


def tensors_of(attended: Attended | Tensor | None) -> tuple[Tensor, ...]:
    """What is held of what is attended to."""
    if attended is None:
        return ()
    return (attended,) if isinstance(attended, Tensor) else (attended.keys, attended.values)


def _length(tokens: Tensor | Attended | None) -> int:
    if tokens is None:
        return 0
    return (tokens if isinstance(tokens, Tensor) else tokens.keys).shape[1]


@torch.no_grad()
def plan_of(model: Prompted) -> Plan | None:
    """What a model's method adds, block by block; None where it depends on the image, or is not known to be this alone.

    The block loop is run on a tower that notes what it is given. After each block it gives tokens that are no numbers:
    what is a number before the next block has come from the method.
    """
    tower, method = model.tower, model.method
    if any(_is_around(part) for part in method.parts):
        return None
    if tower.closed is not None:
        # Nothing enters such an encoder.
        return ()
    if tower.hierarchical:
        return None
    noted = _Noting(tower)
    images = torch.zeros(1, 3, 1, 1, dtype=tower.dtype, device=tower.kernel.device)
    encode_images(noted, method, images, fold(tower, method, merge=False))  # type: ignore[arg-type]
    steps = noted.steps
    if (
        len(steps) != tower.depth
        or noted.odd
        or any(step.change is not None and step.attended is not None for step in steps)
    ):
        return None
    if not all(_mixes(tower, layer, step.change) for layer, step in enumerate(steps)):
        return None
    return tuple(steps)


def _mixes(tower: ImageTower, layer: int, change: Change) -> bool:
    """Whether all that a change changes of a block may differ from row to row."""
    if change is None:
        return True
    if tower.why_whole(layer) is not None:
        return False
    before = tower.open(layer)
    after = change(layer, before)
    names = (field.name for field in fields(before) if getattr(after, field.name) is not getattr(before, field.name))
    return set(names) <= MIXES


def _is_around(part: Part) -> bool:
    """Whether a part does what the loop over blocks does not see, or asks what a batch of several tasks has not."""
    if isinstance(part, ImagePrompts):
        return part.read_out or not part.fixed
    if isinstance(part, ChangePart):
        return part.on_grid
    return isinstance(part, Pixels | Ends | Side)


def is_frozen(plan: Plan) -> bool:
    """Whether it adds nothing: the image's features are those of the backbone."""
    return all(step.shape == (False, 0, 0, False) for step in plan)


class _Noting:
    """A tower that advances nothing."""

    def __init__(self, tower: ImageTower) -> None:
        self._tower = tower
        self._own = max(tower.read or 1, tower.prefix) + 1
        self.steps: list[Step] = []
        self.odd = False
        self._carried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def embed(self, images: Tensor) -> Tensor:
        """The image's own tokens, which are no numbers."""
        return images.new_full((1, self._own, self._tower.width), torch.nan)

    def embedded(self, images: Tensor) -> tuple[Tensor, None]:
        """Likewise."""
        return self.embed(images), None

    def advance(
        self,
        layer: int,
        x: Tensor,
        context: Any = None,
        mask: Any = None,
        change: Change = None,
        read: Any = None,
        **_: Any,
    ) -> Tensor:
        """Note what block `layer` is given."""
        behind = x[:, self._own :]
        new = behind.isfinite().all(-1)[0]
        kept = int((~new).sum())
        contexts: Sequence[Any] = context if isinstance(context, list | tuple) else [] if context is None else [context]
        # The image's own tokens come first, and of prompts those that were there.
        self.odd |= mask is not None or len(contexts) > 1 or bool(x[:, : self._own].isfinite().any())
        self.odd |= bool(new[:kept].any()) or (kept > 0 and kept != self._carried)
        attended = contexts[0] if contexts else None
        self.odd |= any(not part.isfinite().all() or len(part) != 1 for part in tensors_of(attended))
        enters = behind[:, kept:].clone() if kept < behind.shape[1] else None
        self.steps.append(Step(kept > 0, enters, attended, change))
        self._carried = behind.shape[1]
        x = torch.full_like(x, torch.nan)
        return x if read is None else read(x)

    def readout(self, x: Tensor) -> Tensor:
        """Nothing."""
        return x[:, 0]
