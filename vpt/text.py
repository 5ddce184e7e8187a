"""The text half of a model: the frozen text tower, how similarities become logits, and the features of class names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from numbers import Integral
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from vpt.errors import VptError
from vpt.held import held, is_holding
from vpt.loops import TextLoop, encode_texts, encode_texts_plain
from vpt.methods.base import Method
from vpt.normalised import normalised
from vpt.precision import cast_to, in_own
from vpt.towers.backbone import Pair
from vpt.towers.packing import Layout, Placed, Texts, in_rows, joined, packed, read_last

T = TypeVar("T")

# Rows of texts come in multiples of it where batches are to be of the same shape.
GRID = 4

DEFAULT_TEMPLATES = ("a photo of a {}.",)
ENSEMBLES = ("openai-7", "openai-80")


def ensemble(name: str) -> list[str]:
    """OpenAI's 7 or 80 hand-written templates for ImageNet, as open_clip has them."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    makers = SIMPLE_IMAGENET_TEMPLATES if name == "openai-7" else OPENAI_IMAGENET_TEMPLATES
    return [maker("{}") for maker in makers]


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """`templates`, each a sentence with one {} for the class name.

    Raises:
        TypeError: they are no list.
        VptError: one that is not.
    """
    if isinstance(templates, str):
        raise VptError(f"templates={templates!r} is one sentence: give a list, as templates=[{templates!r}].")
    if not isinstance(templates, Sequence):
        raise TypeError(f"templates={templates!r}: give a list of sentences, each with one {{}} for the class name.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise VptError(f"the template {template!r} must hold one {{}} for the class name.")
    if not templates:
        raise VptError("there are no templates: give at least one sentence with {} for the class name.")
    return tuple(templates)


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """`classes` as a tuple of texts; whole numbers become such.

    Raises:
        VptError: it is no list, a name is no text or empty, or two are the same.
    """
    if isinstance(classes, str):
        raise VptError(f"classes={classes!r} is one text: give a list of names, as classes=[{classes!r}, …].")
    if isinstance(classes, set | frozenset | Mapping) or not isinstance(classes, Iterable):
        raise VptError(f"classes is a {type(classes).__name__}, whose order says nothing: give a list of names.")
    names = tuple(str(name) if isinstance(name, Integral) and not isinstance(name, bool) else name for name in classes)
    for name in names:
        if not isinstance(name, str):
            raise VptError(f"the class name {name!r} is no text: give words, such as 'dog'.")
    empty = [index for index, name in enumerate(names) if not name.strip()]
    if empty:
        raise VptError(f"{len(empty)} of {len(names)} texts are empty, first number {empty[0] + 1}: give words.")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise VptError(f"two classes are both named {twice[0]!r}: class names must differ.")
    return names


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.is_meta or (one.device == other.device and one.dtype == other.dtype and torch.equal(one, other))


class TextSide(nn.Module):
    """A text tower and the scale of logits.

    Args:
        pair: the tower, scale and bias of an image-text model.
        learn_scale: train the logit scale (and bias) too, as in pre-training.

    Attributes:
        chunk: texts that go through the blocks at once; with gradients they are computed again in the backward
            pass, so that memory does not grow with their number. None takes all together.
        loop: the block loop that texts go through, `encode_texts` or what it was compiled to.
    """

    loop: TextLoop

    def __init__(self, pair: Pair, *, learn_scale: bool = False) -> None:
        super().__init__()
        self.tower = pair.text
        self.logit_scale = nn.Parameter(pair.logit_scale.detach().clone().reshape(()), requires_grad=learn_scale)
        self.logit_bias: nn.Parameter | None = None
        if pair.logit_bias is not None:
            self.logit_bias = nn.Parameter(pair.logit_bias.detach().clone().reshape(()), requires_grad=learn_scale)
        self.chunk: int | None = None
        self.loop = encode_texts
        self._remembered: dict[str, tuple[Any, Any]] = {}
        self._values: dict[str, list[Tensor]] = {}
        self._looked: set[str] = set()

    def train(self, mode: bool = True) -> TextSide:
        """torch's own."""
        self._looked.clear()
        return super().train(mode)

    def scale(self) -> Tensor:
        """What cosine similarities are multiplied by, a scalar."""
        return self.logit_scale.exp()

    def encode(
        self,
        method: Method,
        ids: Tensor | Sequence[Texts],
        image: Tensor | None = None,
        *,
        plain: bool = False,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Token ids (N, L - num_context) to text features (N, F), or (B, N, F) where they depend on images.

        Args:
            method: whose prompts enter.
            ids: of texts, best on the CPU; or what `plan` made of them, but in the plain form.
            image: L2-normalised image features (B, F), where the method's context depends on them.
            plain: run the method's definition in place of the fast form.
            classes: where the texts are class names that the method looks at, their features without it, (N, F).
        """
        if method.conditional and image is None:
            raise VptError(f"texts have no features of their own with {method.name}: its context depends on the image.")
        if method.text_prompts.looks_at_classes and classes is None:
            raise VptError(
                f"{method.name} makes what enters texts of class names: it encodes those of its classes alone."
            )
        if plain:
            assert isinstance(ids, Tensor)
            return self._plainly(method, ids, image, classes)
        texts = self.plan(method, ids) if isinstance(ids, Tensor) else ids
        recompute = self.chunk is not None and torch.is_grad_enabled()
        context = method.text_prompts.context(image)
        if context is not None and context.ndim == 3 and len(context) > 1 and image is None:
            # Each text has context of its own: the vectors are counted through.
            context = context.flatten(0, 1)[None]
        found = self._looped(method, texts, context, recompute=recompute, classes=classes)
        return found.squeeze(0) if image is None else found

    def _looped(
        self,
        method: Method,
        texts: Sequence[Texts],
        context: Tensor | None,
        *,
        recompute: bool,
        classes: Tensor | None,
    ) -> Tensor:
        positions = self.tower.positions()
        with in_own(positions):
            precision = cast_to(positions.device)
            options: dict[str, Any] = {"precision": precision, "recompute": recompute, "classes": classes}
            return self.loop(self.tower, method, texts, context, **options)

    def plan(self, method: Method, ids: Tensor, *, alike: bool = False) -> list[Texts]:
        """Where the tokens of texts (N, L - num_context) stand and what they see, on the device of the encoder.

        Args:
            method: whose context stands in them.
            ids: of texts, best on the CPU.
            alike: plans of as many other texts are to be of the same shape, where they can be.
        """
        # What stands where is decided by ids, for which a GPU would have to be waited for.
        tower, ids, prompts = self.tower, ids.cpu(), method.text_prompts
        like: dict[str, int] = {"grid": GRID, "longest": tower.context_length} if alike else {}
        on_gpu = self.logit_scale.device.type != "cpu"

        def placed(layout: Layout, some: slice) -> Placed:
            part = layout.rows(some)
            if tower.causal:
                return read_last(packed(part, tower.width, on_gpu=on_gpu, **like), grid=GRID if alike else 1)
            return read_last(in_rows(part))

        lengths = tower.lengths(ids) + prompts.num_context
        codes = prompts.codes(ids, lengths - prompts.num_context, tower.start)
        layout, found = tower.layout(codes, lengths), []
        step = self.chunk or max(1, len(ids))
        parts = [slice(start, start + step) for start in range(0, len(ids), step)]
        if prompts.then_at is None:
            found = [placed(layout, some).texts for some in parts]
        else:
            codes, origin = prompts.codes_then(codes, tower.start)
            second = tower.layout(codes, lengths + prompts.lengthens)
            # A class token that an encoder sets behind them stays where it is.
            behind = torch.arange(codes.shape[1], second.codes.shape[1]) - prompts.lengthens
            origin = torch.cat([origin, behind.expand(len(origin), -1)], dim=1)
            for some in parts:
                found.append(joined(placed(layout, some), prompts.then_at, placed(second, some), origin[some]))
        return [texts.to(self.logit_scale.device).scored(tower.positions().dtype) for texts in found]

    def _plainly(self, method: Method, ids: Tensor, image: Tensor | None, classes: Tensor | None) -> Tensor:
        """The definition: whole texts, each by itself."""
        tower, ids = self.tower, ids.cpu()
        words, lengths = method.text_prompts.plain_sequences(tower, ids, image)
        shape = words.shape[:2]

        prompts = method.text_prompts

        def compute() -> Texts:
            def laid(more: int) -> Placed:
                codes = torch.zeros(shape[0], shape[1] + more, dtype=torch.long)
                return in_rows(tower.layout(codes, lengths + more))

            found = laid(0)
            if prompts.then_at is not None and prompts.lengthens:
                second = laid(prompts.lengthens)
                return joined(found, prompts.then_at, second, torch.full_like(second.places, -1)).to(words.device)
            return found.texts.to(words.device)

        key = (shape, lengths.tolist(), words.device, prompts.then_at, prompts.lengthens)
        texts = self._once("plain", key, compute)
        given = partial(method.text_prompts.plain, start=tower.start, classes=classes)
        with in_own(tower.positions()):
            found = encode_texts_plain(tower, tower.complete(words), texts, given, method.text_change)
        return found if image is None else found.unflatten(0, (len(image), -1))

    def class_features(
        self,
        method: Method,
        classes: Sequence[str],
        templates: Sequence[str],
        image: Tensor | None = None,
        *,
        plain: bool = False,
        mean: Literal["normalised", "raw", "each"] = "normalised",
        lengths: bool = False,
        seen: Tensor | None = None,
    ) -> Tensor:
        """L2-normalised features of class names, (C, F), or (B, C, F) where they depend on images (B, F).

        Features of several templates are normalised (or left "raw", with `mean`), averaged and normalised again
        (Radford et al., 2021), unless the mean is to keep its `lengths`. They are computed once where they do not
        change: in evaluation, or where the text side is frozen. `seen` are those without the method, for one that looks
        at them. With `mean` "each" those of the S templates stay apart, (C, S, F).
        """

        def features(template: str) -> Tensor:
            if plain:
                ids = self._ids(template, classes, method.num_context)
                return self.encode(method, ids, image, plain=True, classes=seen)
            return self.encode(method, self._planned(method, template, classes), image, classes=seen)

        def compute() -> Tensor:
            # A template at a time: its own words are advanced once for all classes, and memory stays that of one.
            found = [features(template) for template in templates]
            if mean == "each":
                return normalised(torch.stack(found, dim=1))
            if len(found) > 1 and mean == "normalised":
                found = [normalised(each) for each in found]
            averaged = torch.stack(found).mean(0) if len(found) > 1 else found[0]
            return averaged if lengths else normalised(averaged)

        # While a graph is traced weights have no values: the program computes the features, from what was planned.
        if torch.compiler.is_exporting():
            return compute()
        if image is not None or plain or (torch.is_grad_enabled() and not self.frozen_under(method)):
            return compute()
        key = (tuple(classes), tuple(templates), mean, id(seen))
        return self._features_once(f"{type(method).__name__} {lengths}", key, method, compute)

    def sentence_features(self, method: Method, sentences: Sequence[Sequence[str]]) -> Tensor:
        """L2-normalised features of S sentences about each of C classes, (C, S, F), computed once."""

        def compute() -> Tensor:
            # A sentence of each class at a time.
            texts = zip(*sentences, strict=True)
            found = [self.encode(method, self.tower.tokenize(list(each), method.num_context)) for each in texts]
            return normalised(torch.stack(found, dim=1))

        return self._features_once("sentences", (id(sentences),), method, compute)

    def frozen_under(self, method: Method) -> bool:
        """Whether training with `method` leaves text features as they are."""
        return not (method.prompts_text or any(p.requires_grad for p in self.tower.parameters()))

    def _ids(self, template: str, classes: Sequence[str], num_context: int) -> Tensor:
        """Ids (C, L - num_context) of class names in a sentence: to tokenize them may take as long as a step."""

        def compute() -> Tensor:
            # A folder is often called by words with "_" between, and a class by its folder.
            words = [name.replace("_", " ") for name in classes]
            ids = self.tower.tokenize([template.replace("{}", name) for name in words], num_context)
            # The plain form brings them to the device at each step.
            return ids.pin_memory() if self.logit_scale.device.type == "cuda" else ids

        return self._once(f"{template} {num_context}", (tuple(classes), self.logit_scale.device), compute)

    def _planned(self, method: Method, template: str, classes: Sequence[str]) -> list[Texts]:
        """`plan` of class names in a sentence, which depends on them alone."""

        def compute() -> list[Texts]:
            return self.plan(method, self._ids(template, classes, method.num_context))

        key = (tuple(classes), self.chunk, self.logit_scale.device)
        return self._once(f"{type(method).__name__} {template} {method.num_context}", key, compute)

    def _features_once(self, name: str, key: tuple[Any, ...], method: Method, compute: Callable[[], Tensor]) -> Tensor:
        """Features without gradients, remembered until `key` or anything that they are made of changes."""
        if self.training and is_holding() and not self.frozen_under(method):
            # Training changes them from step to step: a replay is to compute them, as steps do that run as they are.
            with torch.no_grad():
                return compute()
        key = (*key, *self._state(method))
        if is_holding() or torch.compiler.is_compiling() or not method.prompts_text:
            return self._once(name, key, compute)
        # What is written to `.data`, as by averages of one's own, has no number that says so. A GPU would have to be
        # waited for: there it is looked for once behind each `train` and `eval`.
        if name not in self._looked or self.logit_scale.device.type == "cpu":
            self._looked.add(name)
            values = [*method.parameters(), *method.buffers()]
            before = self._values.get(name, [])
            if len(before) != len(values) or not all(map(_alike, before, values)):
                self._remembered.pop(name, None)
                self._values[name] = [value.detach().clone() for value in values]
        return self._once(name, key, compute)

    def _once(self, name: str, key: Any, compute: Callable[[], T]) -> T:
        """What `compute` gives, remembered until `key` changes."""
        if name in self._remembered and self._remembered[name][0] == key:
            known: T = self._remembered[name][1]
            return held(known)

        def apart() -> T:
            # What is remembered may be met again while gradients are kept, where no inference tensor may be.
            with torch.inference_mode(False), torch.no_grad():
                return compute()

        if torch.compiler.is_exporting():
            # Ids and places of tokens are constants of the program; another thread computes and does not trace.
            with ThreadPoolExecutor(1) as other:
                found = other.submit(apart).result()
        else:
            found = apart()
        if is_holding():
            # What a capture computes has no values before it is replayed, and none at all where it fails.
            return found
        self._remembered[name] = (key, found)
        return found

    def _state(self, method: Method) -> tuple[Any, ...]:
        """Changes whenever text features do."""
        parts = (self.tower, method) if method.prompts_text else (self.tower,)
        tensors = [p for part in parts for p in (*part.parameters(), *part.buffers())]
        device = self.logit_scale.device
        autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
        return (device, self.logit_scale.dtype, autocast, *((id(p), p._version) for p in tensors))
