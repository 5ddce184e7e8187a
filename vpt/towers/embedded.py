"""Backbones that come with the package, under "vpt/…"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vpt.errors import VptError, did_you_mean
from vpt.towers import timm
from vpt.towers.backbone import Backbone

ASSETS = Path(__file__).parents[1] / "assets"


def load(name: str, *, pretrained: bool = True, image_size: int | None = None, **options: Any) -> Backbone:
    """The embedded backbone `name`; options as for timm's.

    Raises:
        VptError: there is none of this name.
    """
    if name not in names():
        raise VptError(f"no backbone 'vpt/{name}' comes with the package: {did_you_mean(name, names())}")
    return replace(
        timm.load(f"local-dir:{ASSETS / name}", pretrained=pretrained, image_size=image_size, **options),
        name=f"vpt/{name}",
    )


def names() -> list[str]:
    """Names without the leading "vpt/"."""
    return sorted(config.parent.name for config in ASSETS.glob("*/config.json"))
