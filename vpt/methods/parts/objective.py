"""The kind of part that is a term of the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from vpt.methods.parts.base import Part
from vpt.methods.parts.outputs import Outputs


class Around(NamedTuple):
    """What an objective may need beside the outputs of a batch.

    Attributes:
        learned: the parameters of the method that are trained.
        entropy: logits (B, C) to their cross entropy with the labels of the batch, smoothed as training asks for.
        share: what this batch counts for in a step of several batches or processes, after which `correct` is called;
            None where the batch is a step by itself.
    """

    learned: Sequence[nn.Parameter]
    entropy: Callable[[Tensor], Tensor]
    share: float | None


class Objective(Part):
    """What is added to the cross entropy of a batch, where text features are the classifier.

    Attributes:
        frozen_templates: what class names are put in for `Outputs.frozen_text`; None for the data set's templates.
        frozen_mean: whether features of several such templates are averaged "normalised" or "raw", or "each" stays, as
            (C, S, F).
        in_place: it stands in the place of the cross entropy, so that images need no labels.
        two_views: each image is augmented twice, and the model without the method is given the second view.
    """

    frozen_templates: tuple[str, ...] | None = None
    frozen_mean: Literal["normalised", "raw", "each"] = "normalised"
    in_place: bool = False
    two_views: bool = False

    def frozen_texts(self, classes: Sequence[str]) -> list[list[str]] | None:
        """Sentences about each class, as many for each, in the place of templates, where there are any."""
        return None

    @property
    def wants_frozen(self) -> bool:
        """Whether it looks at what the model says without the method, which is then in the outputs."""
        return True

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """What is added, a scalar."""
        raise NotImplementedError

    def loss(self, so_far: Tensor, outputs: Outputs, labels: Tensor, around: Around) -> Tensor:
        """The loss with this part in it, a scalar; `so_far` is the cross entropy, or 0, with those of other parts."""
        return so_far + self.term(outputs, labels)

    def correct(self, learned: Sequence[nn.Parameter], mean: Callable[[Tensor], Tensor]) -> None:
        """Called before a step of the optimizer, when the gradient of a whole step of several batches is there.

        Args:
            learned: the parameters of the method that are trained.
            mean: of a tensor over all processes.
        """
