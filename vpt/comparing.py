"""What a model with a text side does: images compared with texts, and with the names of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vpt.around import by_size
from vpt.classes import NOTHING
from vpt.errors import VptError
from vpt.methods.parts import Objective, Outputs
from vpt.normalised import normalised
from vpt.text import TextSide
from vpt.towers.packing import Texts


class Comparing:
    """The part of `vpt.model.Prompted` that needs texts."""

    _teacher: tuple[Any, ...] = ()

    def compare(self, images: Tensor, ids: Tensor | Sequence[Texts]) -> tuple[Tensor, Tensor]:
        """L2-normalised features of images (B, F) and of texts (N, F).

        Args:
            images: preprocessed (B, 3, H, W), or their features (B, F).
            ids: of texts, as `tokenize` gives them, (N, L - num_context); or what `TextSide.plan` made of them.
        """
        model: Any = self
        return normalised(model.features(images)), normalised(self.encode_text(ids))

    def outputs(
        self,
        images: Tensor | Sequence[Tensor],
        *,
        plain: bool = False,
        frozen: bool = True,
        text: Tensor | None = None,
        second: Tensor | None = None,
        taught: Tensor | None = None,
    ) -> Outputs:
        """What class names as classifier make of images (B, 3, H, W), with all that losses look at.

        Args:
            images: preprocessed, or their features (B, F).
            plain: as in `features`.
            frozen: also what the model says without the method, where its loss asks for it.
            text: features of the classes (C, F) as the classifier takes them, where they are computed already.
            second: another view of each image, (B, 3, H, W), for the model without the method; the same by default.
            taught: the teacher's image features (B, T), where they are computed already.
        """
        model: Any = self
        side, method = self._text(), model.method
        with torch.set_grad_enabled(torch.is_grad_enabled() and not method.classifier.alone):
            features = model._read(images, plain=plain)
            known = isinstance(images, Tensor) and images.ndim == 2
            if known:
                # They are kept in full precision, and are compared in that of the encoder.
                features = features.to(model.tower.dtype)
            image = normalised(model.of_image(features))
            if text is None:
                text = model.class_features(image if method.conditional else None, plain=plain, lengths=True)
        scale = side.scale()
        raw: tuple[Tensor, ...] = ()
        if method.classifier.lengths:
            raw, text = (features, text), normalised(text)
        own = image
        image, text = method.classifier.compared(image, text)
        logits = method.logits(raw[0], raw[1], scale) if raw else method.logits(image, text, scale)
        if side.logit_bias is not None:
            logits = logits + side.logit_bias
        frozen_image = frozen_text = None
        view = method.frozen_view if frozen else None
        if view is not None:
            with torch.no_grad():
                # Features that were computed before are those of a frozen image side.
                same = (known and not model.trains_projection) or model.image_is_frozen
                if second is None and same:
                    frozen_image = own
                else:
                    given = images if second is None else second
                    alone = partial(model._encoded, NOTHING, folded=None)
                    frozen_image = normalised(by_size(given, alone))
                frozen_text = self._frozen_texts(view)
        teacher = self.teacher_on(features.device) if frozen else None
        answers = None
        if teacher is not None:
            with torch.no_grad():
                answers = by_size(images if taught is None else taught, teacher)
        raw_image, raw_text = raw or (None, None)
        return Outputs(logits, image, text, scale, frozen_image, frozen_text, raw_image, raw_text, answers)

    def _frozen_texts(self, view: Objective) -> Tensor:
        """Features of the classes without the method, as a part of the loss wants to look at them."""
        model: Any = self
        side, given = self._text(), view.frozen_texts(model.classes)
        if given is not None:
            return side.sentence_features(NOTHING, given)
        templates = view.frozen_templates or model.templates
        return side.class_features(NOTHING, model.classes, templates, mean=view.frozen_mean)

    def teach(self, teacher: Any) -> None:
        """Let the method learn what another model says, of this model's classes.

        Args:
            teacher: a `Prompted` with class names as classifier, which is frozen and told the classes.

        Raises:
            VptError: the method learns from none; a teacher with a linear head, with texts that depend on the image, or
                of other images: another size, mean or deviation.
        """
        model: Any = self
        if not model.method.classifier.needs_teacher:
            raise VptError(f"{model.method.name} learns from labels and from no other model.")
        if teacher.text is None:
            raise VptError("the teacher has a linear head: take a model with class names as classifier.")
        if teacher.method.conditional:
            raise VptError(f"the teacher's texts depend on the image ({teacher.method.name}): take another method.")
        theirs, ours = teacher.preprocessing, model.preprocessing
        if (theirs.size, theirs.mean, theirs.std) != (ours.size, ours.mean, ours.std):
            raise VptError(
                f"the teacher is shown images of {theirs.size}, mean {theirs.mean}, deviation {theirs.std}, and its "
                f"student of {ours.size}, {ours.mean}, {ours.std}: take encoders that are shown the same."
            )
        teacher.eval().requires_grad_(False)
        if teacher.classes != model.classes:
            teacher.set_classes(model.classes)
        with torch.no_grad():
            model.method.classifier.teach(teacher.class_features().to(model.text.logit_scale.device))
        # It is no part of the model: not saved, counted or trained with it.
        self._teacher = (teacher,)

    def teacher_on(self, device: torch.device) -> Any:
        """The teacher, there; None without one."""
        if not self._teacher:
            return None
        (teacher,) = self._teacher
        return teacher if teacher.text.logit_scale.device == device else teacher.to(device)

    def encode_text(self, ids: Tensor | Sequence[Texts], image: Tensor | None = None, *, plain: bool = False) -> Tensor:
        """Token ids (N, L - num_context) to prompted text features (N, F); see `TextSide.encode`."""
        if not isinstance(ids, Sequence) or not all(isinstance(part, Texts) for part in ids):
            _check_ids(ids)
        model: Any = self
        return self._text().encode(model.method, ids, image, plain=plain)

    def plan(self, ids: Tensor) -> list[Texts]:
        """Where the tokens of a batch of texts (N, L - num_context) stand; see `TextSide.plan`."""
        _check_ids(ids)
        model: Any = self
        return self._text().plan(model.method, ids, alike=True)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Ids (N, L - num_context) of texts, with places left for the method's context."""
        model: Any = self
        return self._text().tower.tokenize(texts, model.method.num_context)

    def _text(self) -> TextSide:
        model: Any = self
        if model.text is None:
            raise VptError("this model has no text side: make it with head='text' from an image-text backbone.")
        side: TextSide = model.text
        return side


def _check_ids(ids: Any) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(f"ids is a {type(ids).__name__}, and should be a tensor: say model.tokenize([…]) for texts.")
