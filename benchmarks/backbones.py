"""`python -m benchmarks.backbones`: which families of backbones open, on small random models, as a Markdown table.

Each row is a model that the tests know: it is put through `vpt.testing.check_tower`, or, where no prompt enters it, its
features are compared with those of its library's own forward pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch

import vpt
from vpt.testing import check_tower
from vpt.towers.load import wrap

LIBRARIES = ("torch", "timm", "open_clip_torch", "transformers", "torchvision")

# Methods whose path differs, by what they do to a tower; others go the way of one of these.
METHODS: dict[str, dict[str, Any]] = {"vpt-shallow": {}, "vpt-deep": {}, "clip-lora": {"head": "linear"}, "linear": {}}

BEGIN = "<!-- what follows is written by python -m benchmarks.backbones -->"


def examples() -> dict[str, Any]:
    """The models of the tests, by their names."""
    plain, families, whole, swin = (
        import_module(f"tests.{name}") for name in ("zoo", "tower_zoo", "whole_zoo", "towers.test_swin")
    )
    windows = {f"swin: {name}": each for name, each in swin.EXAMPLES.items()}
    return {**plain.EXAMPLES, **families.FAMILIES, **windows, **whole.WHOLE}


def rows(names: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """A row for each model."""
    for name, example in examples().items():
        if names is None or name in names:
            yield row(name, example)


def row(name: str, example: Any) -> dict[str, str]:
    """What a model of the tests is, which way prompts go in it, which methods take it, and what the check found."""
    model = example.make().float()
    images = example.images(2, torch.float32)
    given: dict[str, Any] = {"preprocessing": {"size": list(example.size), "mean": [0.5] * 3, "std": [0.5] * 3}}
    tower = wrap(model, preprocessing=given["preprocessing"]).tower
    paths = dict.fromkeys(tower.path(layer).partition(":")[0] for layer in range(tower.depth))
    found = {"family": name, "model": _class_of(model), "blocks": " and ".join(paths)}
    for method, options in METHODS.items():
        try:
            vpt.attach(model, method, num_classes=2, **given, **options)
        except vpt.VptError:
            found[method] = "–"
        else:
            found[method] = "yes"
    return found | {"largest error": f"{_error(tower, example, model, images):.0e}"}


def _class_of(model: Any) -> str:
    kind = type(model)
    return f"{kind.__module__.partition('.')[0]} {kind.__name__}"


def _error(tower: Any, example: Any, model: Any, images: torch.Tensor) -> float:
    """Of all laws in float64, or of features alone, in float32, where prompts do not enter."""
    if tower.closed is None:
        errors = check_tower(tower, images=images, features=lambda x: example.features(model, x))
        return max(error for law, error in errors.items() if law != "identity")
    with torch.no_grad():
        return float((tower.features(images) - example.features(model, images)).abs().max())


def table(found: Sequence[dict[str, str]]) -> str:
    """Rows as Markdown, with the versions that they were made with."""
    head = list(found[0])
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(each.values())} |" for each in found]
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES)
    opened = sum(each["blocks"] == "opened" for each in found)
    return f"{len(found)} models, {opened} of them opened in all blocks; {versions}.\n\n" + "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or put it into a page behind the line that says so."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__)
    options.add_argument("--page", help="a Markdown page, e.g. docs/backbones.md")
    options.add_argument("--only", action="append", help="a family; may be given several times")
    given = options.parse_args(arguments)
    text = table(list(rows(given.only)))
    if given.page is None:
        sys.stdout.write(text)
        return 0
    with open(given.page, encoding="utf-8") as page:
        before = page.read().partition(BEGIN)[0]
    with open(given.page, "w", encoding="utf-8") as page:
        page.write(f"{before}{BEGIN}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
