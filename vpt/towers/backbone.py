"""What a library's `load` and `wrap` give: the encoders of a model, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vpt.facts import WeightsFile
from vpt.preprocessing import Preprocessing
from vpt.towers.base import ImageTower
from vpt.towers.text import TextTower


@dataclass(frozen=True)
class Backbone:
    """Frozen encoders and where they came from.

    Attributes:
        tower: the image encoder.
        preprocessing: what it was trained to see.
        name: "library/model", which `vpt.towers.load.load` takes; None for a live model without a name.
        options: the options that name was or would be loaded with.
        revision: the commit of the hub that the weights were loaded from, where they were.
        pair: the text encoder that shares its space of features, and how similarities become logits; a string
            says why there is none.
        weights: the local file that they were read from, where one was named.
    """

    tower: ImageTower
    preprocessing: Preprocessing
    name: str | None
    options: dict[str, Any]
    revision: str | None = None
    pair: Pair | str = "it is an image model alone"
    weights: WeightsFile | None = None

    def recipe(self) -> dict[str, Any]:
        """What a saved model says of it, as plain values: no paths of this machine among them."""
        kept = {"name": self.name, "options": self.options, "revision": self.revision}
        return kept if self.weights is None else kept | {"weights": self.weights.model_dump()}


@dataclass(frozen=True)
class Pair:
    """The text half of an image-text model.

    Attributes:
        text: the text encoder.
        logit_scale: logarithm of what cosine similarities are multiplied by, a scalar.
        logit_bias: added to the logits (SigLIP), a scalar; None for none.
    """

    text: TextTower
    logit_scale: Tensor
    logit_bias: Tensor | None = None
