"""What there is: methods, backbones and data sets, and the shape of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpt import data as datasets
from vpt.methods import available
from vpt.options import options_of
from vpt.towers import load as towers


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


def inspect(name: str) -> list[dict[str, Any]]:
    """Rows that describe a backbone, at random weights: its shape, and the path of each block."""
    backbone = towers.load(name, pretrained=name.startswith("vpt/"))
    tower = backbone.tower
    shape = {
        "width": tower.width,
        "blocks": tower.depth,
        "features": tower.num_features,
        "tokens before the patches": tower.prefix,
        "tokens that are read out": tower.read or "all",
        "patch size": tower.patch_size,
        "image size": "×".join(map(str, backbone.preprocessing.size)),
        "parameters": sum(p.numel() for p in tower.parameters()),
    }
    rows = [{"what": key, "value": value} for key, value in shape.items()]
    return rows + [{"what": f"block {layer}", "value": tower.path(layer)} for layer in range(tower.depth)]


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(name if default is ... else f"{name}={default!r}" for name, (_, default) in options.items())
