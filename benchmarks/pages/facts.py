"""What a method's page says of it: read off its class, and off models on the meta device, which hold no numbers."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import vpt
from vpt.methods import available
from vpt.methods.base import Method
from vpt.options import options_of

ROOT = Path(__file__).parents[2]
CLASSES = 4
# What an image takes on its way through the encoder is counted on so many.
BATCH = 16


@dataclass
class Facts:
    """What is known of a method.

    Attributes:
        name: of the method.
        kind: its class.
    """

    name: str
    kind: type[Method]

    @property
    def heads(self) -> list[str]:
        """Those that it is counted with: a "linear" one on ViT-B/16, class names ("text") on CLIP ViT-B/16.

        Where the classifier is class names unless asked otherwise, a linear head would want no texts.
        """
        return [head for head in self.kind.heads if head == self.kind.head or self.kind.head == "linear"]

    @property
    def shown(self) -> vpt.Prompted:
        """A model of the head that it has where not asked otherwise, which is drawn and counted."""
        return model(self.name, self.kind.head)

    @property
    def tuned(self) -> int:
        """How many numbers are trained beside a linear head, or the rows of `CLASSES` classes with class names."""
        return self.shown.num_tuned(head=self.kind.head == "text")

    @property
    def link(self) -> str | None:
        """Where the paper is, from the module that names it."""
        found = re.search(r"https://\S+?(?=[,.]?(?:\s|$))", sys.modules[self.kind.__module__].__doc__ or "")
        return found.group().rstrip(".,") if found else None

    @property
    def file(self) -> str:
        """The method's file, below the repository."""
        return Path(inspect.getfile(self.kind)).relative_to(ROOT).as_posix()

    @property
    def page(self) -> str:
        """The name of its page, without suffix."""
        return self.name.replace("+", "-plus").replace("--", "-")

    @property
    def idea(self) -> str:
        """The docstring of its class, up to the arguments."""
        text = inspect.cleandoc(self.kind.__doc__ or "")
        return re.split(r"\n\n(?:Args|Raises|Attributes):\n", text)[0]

    def options(self) -> list[tuple[str, str, str]]:
        """Each option with its default and what its docstring says."""
        told = arguments_of(self.kind.__doc__ or "")
        return [
            (name, "needed" if default is ... else _shown(default), told[name])
            for name, (_, default) in options_of(self.kind).items()
        ]

    def configs(self) -> list[Path]:
        """The configs with the paper's settings."""
        return sorted((ROOT / "configs" / "paper" / self.name).glob("*.yaml"))

    def operations(self) -> float | None:
        """Operations of an image through the encoder, over those of the encoder as it is; None where nothing tells."""
        try:
            return operations(self.shown) / _frozen(self.kind.head)
        except RuntimeError:
            return None  # a buffer that is not on the meta device


def _shown(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value).replace("'", '"')


def arguments_of(docstring: str) -> dict[str, str]:
    """Of a docstring's "Args:" each name with its text."""
    text = inspect.cleandoc(docstring)
    found = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", text, re.M)
    if found is None:
        return {}
    each = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", found.group(1), re.M)
    return {name: " ".join(told.split()) for name, told in each}


@cache
def encoders() -> dict[str, nn.Module]:
    """ViT-B/16 and CLIP ViT-B/16, without numbers."""
    import open_clip
    import timm

    with torch.device("meta"):
        return {
            "linear": timm.create_model("vit_base_patch16_224"),
            "text": open_clip.create_model("ViT-B-16", device="meta", load_weights=False),
        }


def model(name: str, head: str, classes: int = CLASSES) -> vpt.Prompted:
    """A method with its defaults, on the encoder for a head."""
    # Some tune it.
    encoder = copy.deepcopy(encoders()[head])
    with torch.device("meta"):
        if head == "linear":
            return vpt.attach(encoder, name, head=head, num_classes=classes)
        return vpt.attach(encoder, name, head=head, classes=[f"class {i}" for i in range(classes)])


@cache
def _frozen(head: str) -> int:
    return operations(model({"linear": "linear", "text": "zero-shot"}[head], head))


def facts(name: str) -> Facts:
    """Everything about a method."""
    return Facts(name, available()[name])


@torch.no_grad()
def operations(prompted: vpt.Prompted) -> int:
    """Of the matrix products that `BATCH` images take; nothing of the model is trained any more."""
    for parameter in prompted.parameters():
        parameter.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        prompted.features(torch.zeros(BATCH, 3, 224, 224, device="meta"))
    return int(counter.get_total_flops())


def ranges(layers: Iterable[int]) -> str:
    """Blocks, counted from 1, as "1 to 9" or "1, 3 and 5"."""
    found = sorted(layer + 1 for layer in layers)
    if found and found == list(range(found[0], found[-1] + 1)):
        return f"block {found[0]}" if len(found) == 1 else f"blocks {found[0]} to {found[-1]}"
    return f"blocks {', '.join(map(str, found[:-1]))} and {found[-1]}"


def changed(change: Callable[[int, Any], Any], tower: Any) -> list[int]:
    """Blocks that a change changes, of an encoder whose blocks are opened."""
    found = []
    for layer in range(tower.depth):
        block = tower.open(layer)
        if change(layer, block) is not block:
            found.append(layer)
    return found


def trained_in(parameters: set[int], module: nn.Module) -> float:
    """The share of a module's parameters that are among those with these ids."""
    own: list[Tensor] = list(module.parameters())
    if not own:
        return 0.0
    return sum(id(each) in parameters for each in own) / len(own)
