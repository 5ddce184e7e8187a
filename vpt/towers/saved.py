"""The backbone of a saved model, which may come from anywhere: what it brings is checked before a library sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vpt.errors import VptError
from vpt.facts import BackboneFacts
from vpt.paths import resolve
from vpt.towers import load as towers
from vpt.towers.backbone import Backbone
from vpt.towers.located import located


def load(facts: BackboneFacts, source: str, *, name: str | None = None, weights: str | Path | None = None) -> Backbone:
    """The backbone that a saved model was trained with.

    Args:
        facts: what the model says of it.
        source: of the model, for errors.
        name: of another backbone, in its place.
        weights: where the file of weights lies here.

    Raises:
        VptError: it has no name, brings an option that is not known to be harmless, or its weights are not here.
    """
    chosen = name or facts.name
    if not chosen:
        raise VptError(f"{source} was saved with a backbone that has no name: pass it as backbone=….")
    options = dict(facts.options)
    before = options.pop("weights", None)
    if name is not None:
        return towers.load(chosen, weights=weights, **options)
    return towers.load(chosen, weights=weights or _weights(facts, before, source), **options)


def _weights(facts: BackboneFacts, before: Any, source: str) -> Path | None:
    """The file of weights that the model was trained with, by its digest, or in older models by its path."""
    if facts.weights is not None:
        found, title = located(facts.weights), f"{facts.weights.name!r} (SHA-256 {facts.weights.digest})"
    elif before is not None:
        title = repr(str(before))
        try:
            found = resolve(str(before))
        except VptError:
            found = None
    else:
        return None
    if found is None:
        raise VptError(
            f"{source} was trained with weights of the file {title}, which is not found here: say where it lies with "
            "weights=FILE, on the command line --weights FILE."
        )
    return found
