"""Backbones that come with the package, under "vpt/…"."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vpt.errors import VptError, did_you_mean
from vpt.towers import timm
from vpt.towers.backbone import Backbone

INSTEAD_OF_WEIGHTS = "its own come with the package"

CONFIG = "open_clip_config.json"
ASSETS = Path(__file__).parents[1] / "assets"


def load(name: str, *, pretrained: bool = True, image_size: int | None = None, **options: Any) -> Backbone:
    """The embedded backbone `name`; options as for timm's.

    Raises:
        VptError: there is none of this name.
    """
    if name not in names():
        raise VptError(f"no backbone 'vpt/{name}' comes with the package: {did_you_mean(name, names())}")
    if (ASSETS / name / CONFIG).is_file():
        return _image_text(name, pretrained, image_size, options)
    return replace(
        timm.load(f"local-dir:{ASSETS / name}", pretrained=pretrained, image_size=image_size, **options),
        name=f"vpt/{name}",
    )


def names() -> list[str]:
    """Names without the leading "vpt/"."""
    return sorted(config.parent.name for pattern in ("config.json", CONFIG) for config in ASSETS.glob(f"*/{pattern}"))


def _image_text(name: str, pretrained: bool, image_size: int | None, options: dict[str, Any]) -> Backbone:
    # open_clip takes seconds to import, and the image models do without.
    from vpt.towers.open_clip import wrap
    from vpt.towers.open_clip_files import read

    model, preprocessing = read(ASSETS / name, pretrained=pretrained)
    if options or image_size not in (None, preprocessing.size[0]):
        asked = ", ".join([*options, *(["image_size"] if image_size else [])])
        raise VptError(f"vpt/{name} comes as it is, and takes no {asked}: leave it out.")
    found = wrap(model)
    assert found is not None
    kept = {} if pretrained else {"pretrained": False}
    return replace(found, name=f"vpt/{name}", options=kept, preprocessing=preprocessing, doubt=None)
