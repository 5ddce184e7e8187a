"""A student of another model: features in the teacher's space, its texts as classifier, and its answers as targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.classifier import Classifier, similarities
from vpt.methods.parts.objective import Objective
from vpt.methods.parts.outputs import Outputs
from vpt.methods.parts.rows import beside
from vpt.normalised import normalised
from vpt.precision import full_precision


class Student(Classifier):
    """Similarities of W2 ReLU(norm(W1 f)), L2-normalised, with the teacher's features of the classes.

    f are image features as long as the encoder makes them, and the norm is over a batch. Until `teach` was called there
    is nothing to learn, and the frozen text encoder of the student classifies.

    Args:
        num_features: of f, F.
        name: of the method, for errors.

    Attributes:
        network: to the teacher's features; W1 and W2 have biases.
        text: the teacher's features of the classes that it was asked for, L2-normalised, (C, T).
    """

    lengths = True
    needs_teacher = True

    text: Tensor
    places: Tensor | None

    def __init__(self, num_features: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.num_features = num_features
        self.register_buffer("text", torch.empty(0, 0))
        self.register_buffer("places", None, persistent=False)
        # It has names and no numbers until it is known how wide the teacher's features are.
        self._build(1)
        for parameter in self.network.parameters():
            parameter.data = parameter.data[:0]

    def teach(self, text: Tensor) -> None:
        """Begin with the teacher's features of the classes, L2-normalised (C, T)."""
        self.text = text.detach().clone()
        self._build(text.shape[1])

    def _build(self, width: int) -> None:
        layers = nn.Linear(self.num_features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        self.network = nn.Sequential(*layers).to(self.text).train(self.training)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Layers and texts as they were saved."""
        self.text = self.text.new_empty(state["text"].shape)
        if len(self.text):
            self._build(self.text.shape[1])

    def set_classes(self, places: Sequence[int] | None) -> None:
        """Which of the teacher's texts are in use.

        Raises:
            VptError: there is none of a class.
        """
        if places is not None and -1 in places and len(self.text):
            raise VptError(f"{self.name} has its teacher's texts of the classes it was trained with, and of no others.")
        self.places = beside(self, places)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """(B, C) of image features (B, F) as they are; the student's own texts are not looked at."""
        if not len(self.text):
            if self.training:
                raise VptError(f"{self.name} has no teacher yet: give method.teacher, or call model.teach(…).")
            return similarities(normalised(image), normalised(text), scale)
        if self.training and len(image) == 1:
            raise VptError(
                f"{self.name} has a norm over the images of a batch, and this batch has one: choose another "
                "train.batch_size, or train.drop_last=true."
            )
        found = normalised(self.network(image.to(self.text.dtype)))
        used = self.text if self.places is None else self.text[self.places]
        return similarities(found, used, scale)


class Distilled(Objective):
    """weight · T² · KL(teacher ‖ student) of predictions at temperature T, in the place of the cross entropy.

    KL is the sum over classes, divided by their number and averaged over images.

    Args:
        weight: above 0.
        temperature: T, above 0.

    Raises:
        VptError: one that is not.
    """

    wants_frozen = False
    in_place = True
    # What corrects the gradient of a loss of labels finds none.
    claims = frozenset({"gradient"})

    def __init__(self, weight: float, temperature: float) -> None:
        super().__init__()
        for option, value in {"weight": weight, "temperature": temperature}.items():
            if value <= 0:
                raise VptError(f"{option}={value}: give a number above 0.")
        self.weight, self.temperature = weight, temperature

    def term(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The divergence; no label is looked at.

        Raises:
            VptError: nobody taught.
        """
        if outputs.taught is None:
            raise VptError("there is no teacher to learn from: give method.teacher, or call model.teach(…).")
        student = (full_precision(outputs.logits) / self.temperature).log_softmax(dim=1)
        teacher = (full_precision(outputs.taught) / self.temperature).softmax(dim=1)
        divergence = F.kl_div(student, teacher, reduction="sum") / student.numel()
        return self.weight * self.temperature**2 * divergence
