"""Frozen towers, a method that adapts them, and a classifier: the model that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from vpt import saving
from vpt.around import are_images, by_size
from vpt.claims import claim
from vpt.classes import NOTHING, ClassNames
from vpt.comparing import Comparing
from vpt.errors import VptError
from vpt.head import new_head
from vpt.kept import Kept
from vpt.loops import Folded, ImageLoop, block_inputs, encode_images, features_plain, fold
from vpt.methods.base import Method
from vpt.own_loop import OwnLoop
from vpt.precision import in_own
from vpt.predict import ImageLike, Prediction, is_one, predict
from vpt.preprocessing import Preprocessing
from vpt.sharing import Shared
from vpt.text import DEFAULT_TEMPLATES, TextSide
from vpt.towers.backbone import Pair
from vpt.towers.base import ImageTower

# What begins so in a model's state is never the backbone's.
LEARNED = ("method.", "head.")


class Prompted(ClassNames, Comparing, Kept, OwnLoop, Shared, nn.Module):
    """Frozen encoders with a method and a classifier; only what the method names, and a linear head, is trained.

    The classifier is a linear head, or, with `pair`, the features of the class names. With `pair` images and texts
    can be compared too, and there may be no classes.

    Args:
        tower: the image encoder. Its parameters are frozen, but for those that the method tunes.
        method: what is learned.
        classes: names of the C classes, in the order of the logits.
        preprocessing: what the backbone was trained to see.
        recipe: how it was made, for `vpt.load`: "backbone" (name, options, revision) and "method" (name and
            options).
        pair: the text encoder and the scale of logits, where text features are the classifier.
        templates: sentences for class names, each with one {}; used where the method has none of its own.
        learn_scale: train the logit scale (and bias) too, as in pre-training.
        head_init: how a linear head begins, as `vpt.create` tells.
        head: a classifier of one's own, features (B, F) to logits (B, C), in place of a linear head.

    Attributes:
        loop: the block loop that images go through, `encode_images` or what it was compiled to.
        learned_classes: those that what belongs to classes was learned for.
    """

    loop: ImageLoop

    def __init__(
        self,
        tower: ImageTower,
        method: Method,
        *,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        recipe: Mapping[str, Any],
        pair: Pair | None = None,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        learn_scale: bool = False,
        head_init: Literal["vpt"] | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not classes and pair is None:
            raise VptError("a model needs at least one class: give classes=[…] or num_classes=….")
        self.tower = tower
        self.text = TextSide(pair, learn_scale=learn_scale) if pair else None
        self.method = method
        method.set_image_size(*preprocessing.size)
        method.set_num_classes(len(classes))
        self.head = head or (None if pair else method.own_head)
        if self.head is None and pair is None:
            self.head = new_head(tower.num_features, len(classes), head_init)
        self.classes: tuple[str, ...] = tuple(classes)
        self.learned_classes = self.classes
        self.templates: tuple[str, ...] = tuple(templates)
        self.preprocessing = preprocessing
        self.recipe = recipe
        self._folded: Folded | None = None
        self.loop = encode_images
        text = self.text.tower if self.text else None
        encoders = [tower] if text is None else [tower, text]
        tuned = list(method.tuned(tower, text))
        claim(self, encoders, tuned, method.name)
        for encoder in encoders:
            encoder.requires_grad_(False)
        for parameter in tuned:
            parameter.requires_grad_(True)
        # Whatever is frozen by hand later, it was trained.
        self._tunes = frozenset(name for name, p in self.named_parameters() if p.requires_grad)
        self.train(False)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images, preprocessed (B, 3, H, W), to logits (B, C); their features (B, F) may be given in their place.

        An encoder that takes images of any size is given a list of them, (3, H, W) each, where they differ.

        Raises:
            TypeError: they are no tensor, here and wherever a model is given images or ids of texts.
        """
        if self.head is not None:
            features = self.features(images)
            dtype = next((p.dtype for p in self.head.parameters()), features.dtype)
            logits: Tensor = self.head(features.to(dtype))
            return logits
        return self.outputs(images, frozen=False).logits

    def features(self, images: Tensor | Sequence[Tensor], *, plain: bool = False) -> Tensor:
        """Images (B, 3, H, W) to prompted features (B, F).

        Args:
            images: preprocessed, or a list as `forward` takes it; or what `kept` made of them, of which features (B, F)
                are given back as they are.
            plain: run the method's definition, which advances every token, in place of the fast form.
                Both give the same values and gradients, to rounding.
        """
        return self.of_image(self._read(images, plain=plain))

    def _read(self, images: Tensor | Sequence[Tensor], *, plain: bool = False) -> Tensor:
        """Features, with what prompts are read out as behind them, (B, F + D), where they are."""
        if not are_images(images):
            _check_images(images)
        return by_size(images, partial(self._read_alike, plain=plain))

    def _read_alike(self, images: Tensor, *, plain: bool) -> Tensor:
        if images.ndim == 2:
            _check_features(images, self.kept_size)
            return self.tower.project(images) if self.trains_projection else images
        if plain:
            images = self.method.pixels(images)
            with in_own(self.tower.kernel):
                return features_plain(self.tower, self.method, images)
        return self._encoded(self.method, images, self._folded)

    def _encoded(self, method: Method, images: Tensor, folded: Folded | None) -> Tensor:
        images = method.pixels(images)
        with in_own(self.tower.kernel):
            return self.loop(self.tower, method, images, folded)

    @property
    def image_is_frozen(self) -> bool:
        """Whether training leaves image features as they are."""
        return not (self.method.prompts_image or any(p.requires_grad for p in self.tower.parameters()))

    @torch.no_grad()
    def block_inputs(self, images: Tensor, *, prompted: bool = True) -> list[Tensor]:
        """What each block is given in the plain form: all tokens, prompts included, (B, N, D) a block.

        Args:
            images: preprocessed (B, 3, H, W).
            prompted: with the method's part; without it the tokens are those of the frozen model.
        """
        _check_images(images)
        if self.tower.closed is not None:
            raise VptError(f"nothing can be seen between the blocks of this encoder: {self.tower.closed}.")
        images = self.method.pixels(images) if prompted else images
        return block_inputs(self.tower, self.method if prompted else NOTHING, images)

    def train(self, mode: bool = True) -> Prompted:
        """Training mode for what is trained; frozen parts stay in evaluation mode."""
        super().train(mode)
        self._folded = None
        if mode:
            _freeze_modes(self.tower)
            if self.text is not None:
                _freeze_modes(self.text.tower)
        return self

    @torch.no_grad()
    def compile_prompts(self) -> Prompted:
        """Evaluation mode, with what images attend to of deep prompts computed once, in place of at every pass.

        It holds until `train` or `eval` is called, the model is moved, or other values are loaded; values changed
        in place by hand are not seen.
        """
        self.eval()
        self._folded = fold(self.tower, self.method)
        return self

    def _apply(self, *args: Any, **options: Any) -> Prompted:
        self._folded = None
        return super()._apply(*args, **options)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """torch's own."""
        self._folded = None
        return super().load_state_dict(*args, **options)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained: "prompts", "head" and "backbone", those of them that hold anything."""
        groups: dict[str, list[nn.Parameter]] = {"prompts": [], "head": [], "backbone": []}
        classifier = self.method.classifier
        heads = {id(parameter) for parameter in classifier.parameters()} if classifier.as_head else set()
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                of = {"method": "prompts", "head": "head"}.get(name.partition(".")[0], "backbone")
                groups["head" if id(parameter) in heads else of].append(parameter)
        return {name: parameters for name, parameters in groups.items() if parameters}

    def num_tuned(self, *, head: bool = True) -> int:
        """How many numbers are trained, with or without the head's."""
        groups = self.parameter_groups()
        return sum(p.numel() for name, group in groups.items() for p in group if head or name != "head")

    def tuned_state(self) -> dict[str, Tensor]:
        """By name every tensor of method and head, and of the backbone those that training changes, buffers too.

        Whether they are frozen by hand meanwhile is nothing to it.
        """
        whole = self.state_dict()
        tuned = {name for name, p in self.named_parameters() if p.requires_grad or name in self._tunes}
        # A head that is the method's has its names there.
        learned = LEARNED[:1] if self.head is self.method.own_head else LEARNED
        state = {name: t for name, t in whole.items() if name.startswith(learned)}
        state |= {name: t for name, t in whole.items() if name in tuned}
        # Of modules that hold one, and of norms that keep statistics and have no parameters, beside one.
        holds = {name.rpartition(".")[0] for name in tuned}
        above = {".".join(name.split(".")[:depth]) for name in tuned for depth in range(name.count(".") + 1)}
        for path, module in self.named_modules():
            counts = isinstance(module, nn.modules.batchnorm._NormBase) and not list(module.parameters())
            if path in holds or (counts and path.rpartition(".")[0] in above):
                own = (f"{path}.{name}" for name, _ in module.named_buffers(recurse=False))
                state |= {name: whole[name] for name in own if name in whole}
        return state

    def frozen_state(self) -> dict[str, Tensor]:
        """Every tensor of the backbone that training leaves alone."""
        tuned = self.tuned_state()
        return {name: t for name, t in self.state_dict().items() if name not in tuned and not name.startswith(LEARNED)}

    def load_tuned_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `tuned_state`.

        Raises:
            VptError: names or shapes are not those of this model.
        """
        own = self.tuned_state()
        if own.keys() != state.keys():
            state = {self._name_now(name): tensor for name, tensor in state.items()}
        if own.keys() != state.keys():
            odd = ", ".join(sorted(own.keys() ^ state.keys())[:5])
            raise VptError(f"the saved tensors are not those of {self.method.name} on this backbone: {odd} differ.")
        learned = {name: tensor for name, tensor in state.items() if name.startswith("method.")}
        self.method.resize({name.removeprefix("method."): tensor for name, tensor in learned.items()})
        own = self.tuned_state()
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                shapes = f"{tuple(tensor.shape)}, the model's {tuple(own[name].shape)}"
                raise VptError(f"the saved {name} has shape {shapes}: it was saved from another model.")
        self.load_state_dict(state, strict=False)
        # What was learned is not to begin anew as images.
        self.method.loaded()

    def _name_now(self, name: str) -> str:
        """What a tensor of a model that was saved by an older version is called."""
        for before, now in self.method.renamed:
            if name.startswith(f"method.{before}"):
                return f"method.{now}{name.removeprefix(f'method.{before}')}"
        return name

    def facts(self, fingerprint: str | None = None) -> dict[str, Any]:
        """What `vpt.load` has to know, and people want to, beside the tensors; without figures.

        Args:
            fingerprint: of the frozen weights, where it is known: it takes as long as reading all of them.
        """
        frozen = fingerprint or saving.fingerprint(self.frozen_state())
        backbone = {**self.recipe["backbone"], "fingerprint": frozen}
        return {
            "backbone": backbone,
            "method": self.method.kept(self.recipe["method"]),
            "head": "text" if self.head is None else self.recipe.get("head", "linear"),
            "classes": list(self.classes),
            "learned_classes": None if self.learned_classes == self.classes else list(self.learned_classes),
            "templates": list(self.templates),
            "preprocessing": self.preprocessing.to_dict(),
            "parameters": {"tuned": self.num_tuned(), "all": sum(p.numel() for p in self.parameters())},
            "versions": saving.versions(),
        }

    @overload
    def predict(self, images: ImageLike, *, batch_size: int = ...) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Sequence[ImageLike], *, batch_size: int = ...) -> list[Prediction]: ...

    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, batch_size: int = 32
    ) -> Prediction | list[Prediction]:
        """Class probabilities of images: a `Prediction`, or a list of them for a list, or for a batch (B, …).

        Args:
            images: files, PIL's pictures, arrays or tensors, as `vpt.predict.as_picture` takes them.
            batch_size: images that go through the model at once.

        Raises:
            VptError: an image cannot be read, or the model has no classes.
        """
        return predict(self, [images], 1)[0] if is_one(images) else predict(self, images, batch_size)

    def _repr_html_(self) -> str:
        """What a notebook shows: a summary."""
        from vpt.report.notebook import model_html

        return model_html(self)


def _check_images(images: Any) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images is a {type(images).__name__}, and should be a tensor of preprocessed images (B, 3, H, W): "
            "model.predict takes files, pictures and arrays."
        )


def _check_features(features: Tensor, width: int) -> None:
    if features.shape[1] != width:
        raise VptError(
            f"features {tuple(features.shape)} are none of this backbone, which has {width}: give (B, {width})."
        )


def _freeze_modes(module: nn.Module) -> None:
    """Put a module that is in training mode out of it where no parameter in it is trained; one without follows."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        _freeze_modes(child)
