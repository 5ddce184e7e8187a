"""What is asked of a finished run or a backbone: predictions, searches, listings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vpt import data as datasets
from vpt.assemble import create
from vpt.build import load_run
from vpt.errors import VptError
from vpt.images import find_images, open_image
from vpt.model import Prompted
from vpt.options import options_of
from vpt.predict import Prediction
from vpt.towers import load as towers

PREDICT_BATCH = 32


def predict(
    run: str | Path,
    images: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> Iterator[tuple[Path, Prediction]]:
    """Predictions for image files, and for every image below folders; all are decoded once before the first.

    Args:
        run: a run directory, a saved model, or with labels an image-text backbone by name.
        images: files and folders.
        labels: texts to choose among, where class names are the classifier.
        templates: sentences for them, each with one {}; the labels as they are by default.

    Raises:
        VptError: the run is not there, an image is not there or broken, or the model has a linear head.
    """
    paths = _images(images)
    model = _model(run)
    if labels:
        model.set_classes(labels, templates or ["{}"])
    elif templates:
        raise VptError("--templates are sentences for --labels: give those too.")
    for start in range(0, len(paths), PREDICT_BATCH):
        some = paths[start : start + PREDICT_BATCH]
        yield from zip(some, model.predict(some), strict=True)


@torch.inference_mode()
def search(run: str | Path, text: str, folder: str | Path, *, top: int = 10) -> list[tuple[Path, float]]:
    """The images below a folder that are most similar to a text, best first, with their cosine similarities.

    Raises:
        VptError: the model has no text side, or there are no images.
    """
    model = _model(run)
    paths, transform = _images([folder]), model.preprocessing.transform()
    query = F.normalize(model.encode_text(model.tokenize([text])), dim=-1)
    scores: list[float] = []
    for start in range(0, len(paths), PREDICT_BATCH):
        pictures = torch.stack([transform(open_image(path)) for path in paths[start : start + PREDICT_BATCH]])
        scores += (F.normalize(model.features(pictures), dim=-1) @ query.T)[:, 0].tolist()
    return sorted(zip(paths, scores, strict=True), key=lambda pair: -pair[1])[:top]


def _images(images: Sequence[str | Path]) -> list[Path]:
    """Image files, and those below folders, each of which can be decoded."""
    paths: list[Path] = []
    for image in map(Path, images):
        found = find_images(image) if image.is_dir() else [image]
        if not found or not found[0].exists():
            raise VptError(f"there is no image {'in ' if image.is_dir() else ''}{str(image)!r}: correct the path.")
        paths += found
    for path in paths:
        open_image(path)
    return paths


def _model(run: str | Path) -> Prompted:
    """The model of a run; or of an image-text backbone as it is, such as "vpt/clip-nano"."""
    library = str(run).partition("/")[0]
    if library in towers.LIBRARIES and not Path(run).exists():
        return create(str(run), "zero-shot", head="text")
    return load_run(run)


def listing(what: str, pattern: str = "") -> list[dict[str, Any]]:
    """Rows of the methods, backbones or data sets whose names hold `pattern`."""
    from vpt.methods import available

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
