"""What there is: methods, backbones and data sets, and the shape of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpt import data as datasets
from vpt.fits import works
from vpt.methods import available
from vpt.options import options_of
from vpt.towers import load as towers
from vpt.towers.base import ImageTower
from vpt.towers.text import TextTower


def listing(what: str, pattern: str = "") -> list[dict[str, Any]]:
    """Rows of the methods, backbones or data sets whose names hold `pattern`."""
    if what == "methods":
        rows = [
            {"method": name, "options": _shown(options_of(kind)), "source": kind.source}
            for name, kind in sorted(available().items())
        ]
    elif what == "backbones":
        rows = [{"backbone": name} for name in towers.names()]
    else:
        rows = [{"data set": name, "options": _shown(datasets.source_options(name))} for name in datasets.names()]
    return [row for row in rows if pattern in next(iter(row.values()))]


# What the paths of blocks mean for whoever prompts them, by how each path begins.
MEANS = {
    "opened": "of a prompt only keys and values are computed, once for all images; results are those of the plain form",
    "whole block": "the library's own block is run on prompts and tokens together: the same results, and slower",
    "not entered": "no prompt enters it; its features serve all methods that do not enter",
}


def inspect(name: str) -> list[dict[str, Any]]:
    """Rows that describe a backbone, at random weights: its shape, the path of its blocks, and what works on it."""
    backbone = towers.load(name, pretrained=name.startswith("vpt/"))
    tower, pair = backbone.tower, backbone.pair
    text = None if isinstance(pair, str) else pair.text
    widths = dict.fromkeys(tower.width_at(layer) for layer in range(tower.depth)) if tower.closed is None else {}
    shape = {
        "width": ", ".join(map(str, widths)) or tower.width,
        "blocks": tower.depth,
        "features": tower.num_features,
        "tokens before the patches": tower.prefix,
        "tokens that are read out": tower.read or "all",
        "patch size": tower.patch_size,
        "image size": "×".join(map(str, backbone.preprocessing.size)),
        "parameters": sum(p.numel() for p in tower.parameters()),
        "texts": pair if text is None else f"{text.depth} blocks of width {text.width}",
    }
    if tower.placed:
        shape["positions"] = "known to attention; prompts take no patch's"
    paths = _folded([tower.path(layer) for layer in range(tower.depth)])
    kinds = dict.fromkeys(path.partition(":")[0] for path in paths.values())
    shape |= paths | {f"{kind} means": MEANS[kind] for kind in kinds if kind in MEANS}
    working = _working(tower, text)
    for head, what in (("linear", "methods"), ("text", "methods with texts as classifier")):
        names = [each for each, its in working if its == head]
        shape |= {what: ", ".join(names)} if names else {}
    return [{"what": key, "value": value} for key, value in shape.items()]


def _folded(paths: list[str]) -> dict[str, str]:
    """Neighbours of one path as one."""
    found: dict[str, str] = {}
    first = 0
    for layer, path in enumerate(paths):
        if layer + 1 == len(paths) or paths[layer + 1] != path:
            found[f"block {layer}" if first == layer else f"blocks {first} to {layer}"] = path
            first = layer + 1
    return found


def _working(tower: ImageTower, text: TextTower | None) -> list[tuple[str, str]]:
    """Methods that have a place in these encoders, and the head that each is used with."""
    heads = ("linear", "text") if text is not None else ("linear",)
    found = []
    for name, kind in sorted(available().items()):
        head = next((each for each in dict.fromkeys((kind.head, *heads)) if each in heads and each in kind.heads), None)
        if head is not None and works(kind, tower, text if head == "text" else None, head):
            found.append((name, head))
    return found


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(name if default is ... else f"{name}={default!r}" for name, (_, default) in options.items())
