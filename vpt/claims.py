"""Backbones that several models share: a model that tunes weights of one has it to itself."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from vpt.errors import VptError


class Claim(NamedTuple):
    """Parameters that a model has of its encoders, and those of them that it tunes, by their identity."""

    every: frozenset[int]
    tuned: frozenset[int]

    def clashes(self, other: Claim) -> bool:
        """Whether one tunes what the other has."""
        return bool(self.tuned & other.every or other.tuned & self.every)


# Of models that are in use.
_CLAIMS: WeakKeyDictionary[Any, Claim] = WeakKeyDictionary()


def claim(model: nn.Module, encoders: Iterable[nn.Module], tuned: Iterable[nn.Parameter], name: str) -> None:
    """Take note of a model that is made, for as long as it lives.

    Args:
        model: it.
        encoders: of it.
        tuned: parameters that it trains.
        name: of its method, for the error.

    Raises:
        VptError: it would tune weights that another model has, or has some that another one tunes.
    """
    every = frozenset(id(parameter) for encoder in encoders for parameter in encoder.parameters())
    own = Claim(every, every & {id(parameter) for parameter in tuned})
    if _others(own):
        # Some may be gone, but for a circle of references.
        gc.collect()
    if others := _others(own):
        tunes, uses = (name, others[0]) if own.tuned else (others[0], name)
        raise VptError(
            f"{tunes} tunes weights of a backbone that a model of {uses} shares with it: attach one of them to a "
            "copy.deepcopy(…) of the backbone, or let the other model go."
        )
    _CLAIMS[model] = own


def _others(own: Claim) -> list[str]:
    """Methods of the models that a claim clashes with."""
    return [model.method.name for model, other in list(_CLAIMS.items()) if own.clashes(other)]
