"""What a library's `load` and `wrap` give: the encoders of a model, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vpt.errors import VptError
from vpt.facts import WeightsFile
from vpt.preprocessing import Preprocessing
from vpt.report.notes import tell
from vpt.towers.base import ImageTower
from vpt.towers.sizes import check_tower
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
        doubt: a sentence where the preprocessing is not what came with the weights but what such models usually have.
        unusable: the preprocessing is known to be something else, and has to be given.
    """

    tower: ImageTower
    preprocessing: Preprocessing
    name: str | None
    options: dict[str, Any]
    revision: str | None = None
    pair: Pair | str = "it is an image model alone"
    weights: WeightsFile | None = None
    doubt: str | None = None
    unusable: bool = False

    def prepared(self, given: Preprocessing | Mapping[str, Any] | None) -> Backbone:
        """With other preprocessing, where some is given; otherwise a doubt about its own is told.

        Raises:
            VptError: what is given makes no sense, or nothing is where it has to be.
        """
        check_tower(self.tower)
        channels, known = self.tower.channels, len(self.preprocessing.mean)
        if given is None and channels == 1 and known == 3:
            # Grey is between the three.
            mean, std = (sum(each) / 3 for each in (self.preprocessing.mean, self.preprocessing.std))
            grey = replace(self.preprocessing, mean=(mean,), std=(std,))
            doubt = (
                f"{self.name or 'this backbone'} takes grey images: mean {mean:.3f} and deviation {std:.3f} are taken"
            )
            return replace(self, preprocessing=grey, doubt=f"{doubt}; say otherwise by preprocessing=….").prepared(None)
        if given is None and channels != known:
            title = f"{self.name or 'this backbone'} takes images of {channels} channels"
            raise VptError(
                f"{title}, and nothing says what it was trained on: give preprocessing={{…}} with mean and std of "
                f"{channels} numbers."
            )
        if given is None:
            if self.doubt is not None and self.unusable:
                raise VptError(self.doubt)
            # What files from elsewhere say of images may make no sense either.
            self.preprocessing.changed({}, f"{self.name or 'this backbone'}: ")
            if self.doubt is not None:
                tell(self.doubt)
            return self
        if not isinstance(given, Preprocessing | Mapping):
            raise TypeError(f"preprocessing={given!r} is a {type(given).__name__}: give a mapping, as {{'mean': […]}}.")
        values = given.to_dict() if isinstance(given, Preprocessing) else dict(given)
        found = self.preprocessing.changed(values)
        if not len(found.mean) == len(found.std) == channels:
            raise VptError(
                f"preprocessing.mean={list(found.mean)} and std={list(found.std)} will not do: this backbone takes "
                f"images of {channels} channels; give a number for each."
            )
        if self.tower.image_size not in (None, found.size):
            want = "×".join(map(str, self.tower.image_size or ()))
            raise VptError(
                f"preprocessing.size={list(found.size)}, and this backbone takes {want} pixels: leave it out."
            )
        options = {**self.options, "preprocessing": values}
        return replace(self, preprocessing=found, options=options, doubt=None)

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
