"""A method as a picture: both encoders, block by block, and on them the method's parts, where they are."""

from __future__ import annotations

from typing import Any

import vpt
from benchmarks.pages.drawing import boxes, lines, picture, words
from benchmarks.pages.facts import Facts, changed, ranges, trained_in
from vpt.methods.parts import Change, Ends
from vpt.methods.parts.base import Pixels, Tuned
from vpt.methods.parts.bridged import Bridge
from vpt.methods.parts.classifier import Similarities
from vpt.methods.parts.deep import Coupled
from vpt.methods.parts.representation import SharedSpace
from vpt.methods.parts.tuned import Biases, Norms

LEFT, STEP, BLOCK, TALL = 158, 34, 24, 56
WIDTH = LEFT + 12 * STEP + 166
IMAGE, TEXT, ASIDE = 34, 154, 34

CLASSIFIERS = {
    "Cache": "cache of images",
    "Gaussians": "Gaussians",
    "MixedFeatures": "small network",
    "Residuals": "texts + residuals",
    "Blended": "rows + texts",
    "Decoupled": "texts + head",
    "Representations": "two read-outs",
    "Student": "teacher's texts",
}


UNTRAINED = ("gda", "tip-adapter")


class Schema:
    """Draws a model, and says in words what it draws."""

    def __init__(self, facts: Facts) -> None:
        self.model: vpt.Prompted = facts.shown
        self.method = self.model.method
        self.name = facts.name
        text = self.model.text
        self.text: Any = None if text is None else text.tower
        backbone = [*self.model.tower.parameters(), *(self.text.parameters() if self.text is not None else ())]
        own = {id(parameter) for parameter in backbone}
        learned = [parameter for group in self.model.parameter_groups().values() for parameter in group]
        self.tuned = {id(parameter) for parameter in learned} & own
        self.shapes: list[str] = []
        self.said: list[str] = []

    def draw(self) -> tuple[str, list[str]]:
        """The picture, and a line for each thing in it that is learned."""
        side = self.method.side_network
        image, text = IMAGE + (ASIDE if side is not None else 0), TEXT + (ASIDE if side is not None else 0)
        self._row(image, "picture", self.model.tower, "image")
        self._pixels(image)
        if side is not None:
            self._side(image)
        if self.text is not None:
            self._row(text, "class names", self.text, "text")
        self._prompts(image, text)
        self._link(image, text)
        self._classifier(image, text)
        self.said += [_objective(part) for part in self.method.objectives]
        height = (text + 22 if self.text is not None else image + 30) + TALL + 20
        legend = [
            boxes([(16, height - 24, 11, 11)], "learned"),
            words(32, height - 14, "learned", "quiet", "start", 11),
            boxes([(88, height - 24, 11, 11)], "frozen"),
            words(104, height - 14, "frozen", "quiet", "start", 11),
        ]
        title = f"{self.name}: {'; '.join(self.said) or 'nothing is learned in the encoders'}"
        return picture(WIDTH, height, title, [each for each in self.shapes + legend if each]), self.said

    def _row(self, y: float, given: str, tower: Any, on: str) -> None:
        """An encoder from left to right: what it is given, its blocks, what is read out."""
        shares = [trained_in(self.tuned, tower.block(layer)) for layer in range(tower.depth)]
        places = [(LEFT + layer * STEP, y, BLOCK, TALL) for layer in range(tower.depth)]
        middle = y + TALL / 2
        self.shapes += [
            words(48, middle + 4, given),
            boxes([(100, y + 8, 40, TALL - 16)], "frozen"),
            words(120, middle + 4, "embed", "ink", size=11),
            lines([(86, middle, 100, middle), (140, middle, LEFT, middle)], "line"),
            lines(
                [(x + BLOCK, y + TALL / 2, x + STEP, y + TALL / 2) for x, *_ in places[:-1]]
                + [(places[-1][0] + BLOCK, y + TALL / 2, places[-1][0] + STEP + 8, y + TALL / 2)],
                "line",
            ),
            boxes([place for place, share in zip(places, shares, strict=True) if share < 1], "frozen"),
            boxes([place for place, share in zip(places, shares, strict=True) if share == 1], "learned"),
            # Some parameters of a block alone, such as its norms: a strip of it.
            boxes([(x, y + h - 9, w, 9) for (x, _, w, h), share in zip(places, shares, strict=True) if 0 < share < 1],
                  "learned"),
        ]  # fmt: skip
        number = y - 8 if on == "image" else y + TALL + 14
        self.shapes += [words(places[0][0] + BLOCK / 2, number, "1", "quiet", size=10)]
        self.shapes += [words(places[-1][0] + BLOCK / 2, number, str(tower.depth), "quiet", size=10)]
        if any(shares):
            what = _what_of(self.method)
            layers = [layer for layer, share in enumerate(shares) if share]
            self.said.append(f"{what} of {ranges(layers)} of the {on} encoder")
        elif on == "image" and self.tuned and not any(shares):
            self.said.append("the projection behind the image encoder")
            self.shapes.append(boxes([(LEFT + 12 * STEP - 4, y + 14, 10, TALL - 28)], "learned"))
        for change in self.method.changes(on):
            self._change(change, y, tower, on)
        if on == "image" and self.method.of_kind(Ends):
            self.shapes.append(boxes([(100, y + TALL - 17, 40, 9)], "learned"))
            self.said.append("what stands before and behind the blocks")

    def _change(self, change: Change, y: float, tower: Any, on: str) -> None:
        """A mark in each block that something is added in; attention above, the MLP below."""
        layers = changed(change.change, tower)
        claims = sorted(change.claims)
        below = any("MLP" in claim or "adapters" in claim for claim in claims)
        both = any("blocks" in claim or "behind" in claim for claim in claims) or len(claims) > 4
        top = y + 6 if both or not below else y + TALL / 2 + 3
        tall = TALL - 12 if both else TALL / 2 - 9
        self.shapes.append(boxes([(LEFT + layer * STEP + 6, top, BLOCK - 12, tall) for layer in layers], "learned"))
        self.said.append(f"{_joined(claims)}, {ranges(layers)}" + (f" of the {on} encoder" if self.text else ""))

    def _prompts(self, image: float, text: float) -> None:
        prompts, keys = self.method.image_prompts, self.method.keys_values
        if prompts.enters:
            self._tokens(sorted(prompts.enters), image, self.model.tower.depth)
            made = ", made of the image" if prompts.looks_at_image else ""
            made = ", made from the text prompts" if isinstance(prompts, Coupled) else made
            self.said.append(f"{prompts.count()} image prompts before {ranges(prompts.enters)}{made}")
        if keys is not None:
            places = [(LEFT + layer * STEP - 5, image - 5, 10, 10) for layer in sorted(keys.enters)]
            turned = "".join(f"M{x + 5:g} {y - 2:g}l7 7l-7 7l-7 -7z" for x, y, *_ in places)
            self.shapes.append(f'<path class="learned" d="{turned}"/>')
            self.said.append(f"keys and values in {ranges(keys.enters)}")
        texts = self.method.text_prompts
        if self.text is not None and (texts.num_context or texts.enters):
            layers = sorted(({0} if texts.num_context else set()) | set(texts.enters))
            if texts.then_at is not None:
                layers = sorted({*layers, texts.then_at})
            self._tokens(layers, text, self.text.depth, above=True)
            count = f"{texts.num_context} " if texts.num_context else ""
            made = ", each moved by the image" if texts.conditional else ""
            made = ", from the middle on made of the class name" if texts.looks_at_classes else made
            self.said.append(f"{count}vectors among the words before {ranges(layers)}{made}")

    def _tokens(self, layers: list[int], y: float, depth: int, *, above: bool = False) -> None:
        """Squares beside the blocks that tokens enter before, and a line as far as the last ones are carried on."""
        middle, edge = (y - 16, y) if above else (y + TALL + 16, y + TALL)
        near = middle + 4 if above else middle - 4
        self.shapes += [
            boxes([(LEFT + layer * STEP - 4, middle - 4, 8, 8) for layer in layers], "learned"),
            lines([(LEFT + layer * STEP, near, LEFT + layer * STEP + 5, edge) for layer in layers], "learned", 1.2),
        ]
        if layers[-1] + 1 < depth:
            end = LEFT + (depth - 1) * STEP + BLOCK
            self.shapes.append(lines([(LEFT + layers[-1] * STEP + 6, middle, end, middle)], "learned", 1.2, "3 3"))

    def _link(self, image: float, text: float) -> None:
        """What both encoders share, or what one makes of the other's."""
        shared = isinstance(self.method.image_prompts, Coupled) or self.method.of_kind(SharedSpace)
        bridge = next(iter(self.method.of_kind(Bridge)), None)
        if bridge is not None:
            first = 12 - len(bridge.layers)
            self.said.append("a layer of each pair of these blocks, which both encoders share")
            layers = list(range(first, 12))
        elif shared:
            layers = sorted(self.method.image_prompts.enters)
        else:
            return
        aside, low, high = (0, image + TALL + 20, text - 20) if shared else (BLOCK / 2, image + TALL, text)
        xs = [LEFT + layer * STEP + aside for layer in layers]
        self.shapes.append(lines([(x, low, x, high) for x in xs], "learned", 1, "2 3"))

    def _pixels(self, y: float) -> None:
        if self.method.of_kind(Pixels):
            frame = f'x="16" y="{y + 6:g}" width="64" height="{TALL - 12}" stroke-width="6"'
            self.shapes.append(f'<rect class="l-learned" {frame}/>')
            self.said.append("values that are added to the pixels")

    def _side(self, y: float) -> None:
        top = y - ASIDE - 6
        places = [(LEFT + layer * STEP + 4, top, BLOCK - 8, 16) for layer in range(12)]
        self.shapes += [
            boxes(places, "learned"),
            lines([(x + 8, y, x + 8, top + 16) for x, *_ in places], "line", 1.2),
            lines([(x + 16, top + 8, x + STEP, top + 8) for x, *_ in places[:-1]], "learned", 1.2),
            lines([(places[-1][0] + 16, top + 8, LEFT + 12 * STEP + 6, y + TALL / 2)], "learned", 1.2),
        ]
        self.said.append("a small transformer beside the encoder, which is run without a backward pass")

    def _classifier(self, image: float, text: float) -> None:
        """What compares, at the right end."""
        classifier, x = self.method.classifier, LEFT + 12 * STEP + 10
        y = image if self.text is None else (image + text) / 2
        own = not isinstance(classifier, Similarities)
        learned = own or self.text is None
        mapped = self.method.own_head is not None
        label = "linear head" if self.text is None and not mapped else "own classes" if mapped else "similarity"
        if own:
            label = CLASSIFIERS.get(type(classifier).__name__, "rows of classes")
            filled = ", filled from training images and not trained" if self.name in UNTRAINED else ""
            self.said.append(label + filled)
        middle = y + TALL / 2
        self.shapes += [
            boxes([(x + 14, y + 10, 126, TALL - 20)], "learned" if learned and not mapped else "frozen"),
            words(x + 77, middle + 4, label, "ground" if learned and not mapped else "ink"),
        ]
        if self.text is None:
            self.shapes.append(lines([(x - 4, middle, x + 14, middle)], "line"))
        else:
            up, down = image + TALL / 2, text + TALL / 2
            self.shapes.append(lines([(x - 2, up, x + 40, y + 10), (x - 2, down, x + 40, y + TALL - 10)], "line"))


OBJECTIVES = {
    "Consistent": "features near the frozen model's, of another view and another sentence",
    "Distilled": "predictions near the teacher's; no label is looked at",
    "NearTexts": "text features near those of hand-written templates",
    "NearFrozen": "features and predictions near the frozen model's",
    "NearAnchors": "rows near the text features that they begin as",
    "NearStart": "the projection near what it was",
    "NoConflict": "no step against what the templates say",
    "TextExamples": "texts of the classes as further examples",
    "RepresentationLoss": "both read-outs, and features near the frozen model's",
    "DecoupledLoss": "that of the head beside that of similarities",
    "BlendedSteps": "steps that follow from the features",
}


def _what_of(method: Any) -> str:
    kinds = {type(part) for part in method.of_kind(Tuned)}
    return "biases" if kinds == {Biases} else "norms" if kinds == {Norms} else "all weights"


def _objective(part: Any) -> str:
    return f"in the loss: {OBJECTIVES[type(part).__name__]}"


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
