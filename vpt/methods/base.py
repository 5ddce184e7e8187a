"""What a method of adaptation is to the model that runs it: parts, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.methods.parts.base import (
    Change,
    Ends,
    Head,
    ImagePrompts,
    KeysValues,
    Part,
    Pixels,
    Side,
    TextPrompts,
    Tuned,
)
from vpt.methods.parts.classifier import Classifier, Similarities
from vpt.methods.parts.encoders import Encoder, TextEncoder
from vpt.methods.parts.objective import Around, Objective
from vpt.methods.parts.outputs import Outputs
from vpt.precision import full_precision

P = TypeVar("P", bound=Part)


class Method(nn.Module):
    """What is learned beside the head, made of parts. Without any it learns nothing.

    A subclass with a `name` is a method that users can ask for; the keyword-only arguments of its constructor are its
    options. It is made with the image tower and, where the model has one, the text tower; of them it makes its parts,
    and gives them to this constructor, each by the name that its tensors are saved under.

    Attributes:
        name: as published, lower case with hyphens.
        source: the paper, for tables and cards.
        head: "linear" for a trained linear head, "text" for class names as classifier, where not asked otherwise.
        heads: those that the method can be used with.
        for_training: options that nothing but training reads: they are not saved with a model.
        transductive: no label is looked at, and images of all classes are learned from, those of new ones too.
        renamed: what beginnings of tensors' names were in models that were saved before, to what they are.
        template: what class names are put in; None for the data set's templates, whose features are averaged.
        teacher: name of a trained model that is learned from.
        parts: in the order in which they were given.
        image_prompts: the part of its kind, or one that does nothing; and so the others.
        side_network: a network beside the image encoder, where there is one.
        whole_steps: set while steps are taken that may have several batches and processes: what objectives take the
            gradient of a whole step for is left to `correct`.
        share: what the mean over this process's images counts for in that of a step.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    head: ClassVar[Literal["linear", "text"]] = "linear"
    heads: ClassVar[tuple[str, ...]] = ("linear", "text")
    renamed: ClassVar[tuple[tuple[str, str], ...]] = ()
    for_training: ClassVar[tuple[str, ...]] = ()
    transductive: ClassVar[bool] = False
    teacher: str | None = None
    template: str | None = None
    whole_steps: bool = False
    share: float = 1.0

    parts: tuple[Part, ...]
    image_prompts: ImagePrompts
    keys_values: KeysValues | None
    side_network: Side | None
    text_prompts: TextPrompts
    classifier: Classifier
    image_change: Callable[[int, Any], Any] | None
    text_change: Callable[[int, Any], Any] | None

    def __init__(self, **parts: Part) -> None:
        super().__init__()
        for name, part in parts.items():
            if hasattr(type(self), name) or name in Method.__annotations__:
                raise VptError(
                    f"{self.name}: {type(part).__name__} cannot be called {name!r}, which every method has already: "
                    "give the part another name."
                )
            setattr(self, name, part)
        self._put_together(tuple(parts.values()))

    @classmethod
    def kept(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Of the options that it was given those that are saved with a model."""
        return {name: value for name, value in options.items() if name not in cls.for_training}

    def _put_together(self, parts: tuple[Part, ...]) -> None:
        """Sort the parts by their kinds. They stand in no module's list a second time."""
        for first, second in combinations(parts, 2):
            if first.claims & second.claims:
                both = f"{type(first).__name__} and {type(second).__name__}"
                raise VptError(f"{self.name}: {both} both take the {', '.join(first.claims & second.claims)}.")
        inside = [
            part for part in parts if isinstance(part, ImagePrompts | KeysValues | Ends | Tuned) or _on_image(part)
        ]
        if inside and any(isinstance(part, Side) for part in parts):
            raise VptError(
                f"{self.name}: beside a network that keeps no backward pass through the image encoder nothing is "
                f"learned in it, as {type(inside[0]).__name__} would be: name one of the two."
            )
        changes = [part for part in parts if isinstance(part, Change)]
        self.__dict__ |= {
            "parts": parts,
            "image_prompts": _only(parts, ImagePrompts) or ImagePrompts(),
            "keys_values": _only(parts, KeysValues),
            "side_network": _only(parts, Side),
            "text_prompts": _only(parts, TextPrompts) or TextPrompts(),
            "classifier": _only(parts, Classifier) or Similarities(),
            "image_change": _composed([change for change in changes if change.on == "image"]),
            "text_change": _composed([change for change in changes if change.on == "text"]),
        }

    def of_kind(self, kind: type[P]) -> list[P]:
        """The parts of a kind."""
        return [part for part in self.parts if isinstance(part, kind)]

    def changes(self, on: str) -> list[Change]:
        """What is added inside the blocks of the "image" or the "text" encoder, in the order in which it is added."""
        return _in_order([change for change in self.of_kind(Change) if change.on == on])

    def weights(self, tower: Encoder) -> dict[str, Tensor]:
        """Parameters, by name, that the image encoder is to embed and read out with in place of its own."""
        parts = self.of_kind(Ends)
        found: dict[str, Tensor] = {}
        own: dict[str, Tensor] = dict(tower.named_parameters()) if parts else {}
        for part in parts:
            # Written so that older compilers follow.
            found = {**found, **part.weights({**own, **found})}
        return found

    @property
    def prompts_image(self) -> bool:
        """Image features depend on what is learned."""
        image = bool(self.image_prompts.enters) or self.keys_values is not None
        inside = self.image_change is not None or self.side_network is not None
        return image or inside or bool(self.of_kind(Pixels) or self.of_kind(Ends))

    @property
    def prompts_text(self) -> bool:
        """Text features depend on what is learned."""
        prompts = self.text_prompts
        return prompts.num_context > 0 or bool(prompts.enters) or self.text_change is not None

    @property
    def conditional(self) -> bool:
        """Text features depend on the image."""
        return self.text_prompts.conditional

    @property
    def num_context(self) -> int:
        """Places of learned context behind a text's start tokens."""
        return self.text_prompts.num_context

    def pixels(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) as the encoder is given them."""
        for part in self.of_kind(Pixels):
            images = part.pixels(images)
        return images

    @property
    def own_head(self) -> Head | None:
        """What stands in the place of a new linear head, where anything does."""
        return _only(self.parts, Head)

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """L2-normalised features (B, F) and (C, F) or (B, C, F) to logits (B, C)."""
        return self.classifier.logits(image, text, scale)

    @property
    def objectives(self) -> list[Objective]:
        """What is added to the cross entropy."""
        return self.of_kind(Objective)

    @property
    def frozen_view(self) -> Objective | None:
        """The part of the loss that looks at what the model says without the method, where there is one."""
        return next((part for part in self.objectives if part.wants_frozen), None)

    @property
    def two_views(self) -> bool:
        """Whether each image of training is augmented twice, and the second view shown to the frozen model."""
        return self.frozen_view is not None and self.frozen_view.two_views

    def loss(self, outputs: Outputs, labels: Tensor, label_smoothing: float) -> Tensor:
        """Of a batch, where text features are the classifier: cross entropy, and what objectives add.

        Where one stands in its place no label is looked at.
        """

        def entropy(logits: Tensor) -> Tensor:
            return F.cross_entropy(full_precision(logits), labels, label_smoothing=label_smoothing)

        labelled = not any(part.in_place for part in self.objectives)
        found = entropy(outputs.logits) if labelled else full_precision(outputs.logits).new_zeros(())
        around = Around(self.learned(), entropy, self.share if self.whole_steps else None)
        for part in self.objectives:
            found = part.loss(found, outputs, labels, around)
        return found

    def correct(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Called before a step of the optimizer, when the gradient of the whole step is there; `whole_steps` is set.

        Args:
            mean: of a tensor over all processes.
        """
        for part in self.objectives:
            part.correct(self.learned(), mean)

    def learned(self) -> list[nn.Parameter]:
        """The method's own parameters that are trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def tuned(self, tower: Encoder, text: TextEncoder | None) -> Iterable[nn.Parameter]:
        """The parameters of the backbone itself that are trained."""
        return [parameter for part in self.of_kind(Tuned) for parameter in part.parameters_of(tower, text)]

    @property
    def why_no_captions(self) -> str | None:
        """Why what is learned has no place where images are compared with texts, or None where it has one."""
        if self.conditional:
            return "texts have no features of their own with it, as its context depends on the image"
        if self.text_prompts.looks_at_classes:
            return "what enters its texts is made of class names"
        if self.classifier.of_classes:
            return "what it learns belongs to classes"
        return None

    @property
    def needs_images(self) -> bool:
        """Whether `initialise` must be called with tokens of training images before the first step."""
        return self.image_prompts.needs_images

    @property
    def averages_epochs(self) -> bool:
        """What is learned is whole after the last epoch alone, which is therefore the one that is kept."""
        return any(part.averages_epochs for part in self.parts)

    def initialise(self, tokens: Sequence[Tensor]) -> None:
        """Set prompts from what each block of the frozen backbone is given, (B, N, D) a block."""
        self.image_prompts.initialise(tokens)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Called before tensors are loaded, with them by name; see `Part.resize`."""
        for name, part in self.named_modules():
            if isinstance(part, Part):
                own = {key: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
                part.resize({key.removeprefix(f"{name}."): tensor for key, tensor in own.items()})

    def loaded(self) -> None:
        """Called when saved tensors were loaded."""
        for part in self.parts:
            part.loaded()

    def set_num_classes(self, num_classes: int) -> None:
        """Called once, when a model with so many classes is made."""
        for part in self.parts:
            part.set_num_classes(num_classes)

    def set_image_size(self, height: int, width: int) -> None:
        """Called once, when a model for images of so many pixels is made."""
        for part in self.parts:
            part.set_image_size(height, width)

    def end_epoch(self, epoch: int, epochs: int) -> None:
        """Called after epoch 1, 2, … of `epochs`, before it is evaluated."""
        for part in self.parts:
            part.end_epoch(epoch, epochs)

    def set_classes(self, places: Sequence[int] | None) -> None:
        """Called when the classes were changed; see `Part.set_classes`."""
        for part in self.parts:
            part.set_classes(places)

    def check_new_classes(self) -> None:
        """Called before the classes are changed.

        Raises:
            VptError: what was learned belongs to the classes that it was learned for.
        """
        for part in self.parts:
            part.check_new_classes()


def _only(parts: Sequence[Part], kind: type[P]) -> P | None:
    return next((part for part in parts if isinstance(part, kind)), None)


def _on_image(part: Part) -> bool:
    return isinstance(part, Change) and part.on == "image"


def _in_order(changes: Sequence[Change]) -> list[Change]:
    """What is linear first, so that it can be merged with the weights of the stages that it changes."""
    return sorted(changes, key=lambda change: not change.linear)


class Composed:
    """One change after another."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = tuple(changes)

    def __call__(self, layer: int, block: Any) -> Any:
        """Block `layer` with all of them in it."""
        for change in self.changes:
            block = change.change(layer, block)
        return block


def _composed(changes: Sequence[Change]) -> Callable[[int, Any], Any] | None:
    ordered = _in_order(changes)
    if len(ordered) < 2:
        return ordered[0].change if ordered else None
    return Composed(ordered)
