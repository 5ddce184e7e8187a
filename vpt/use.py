"""What is asked of a finished run or a backbone: predictions, searches, listings, looks inside, new classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vpt import data as datasets
from vpt import saving
from vpt.assemble import create
from vpt.build import load_run
from vpt.errors import VptError
from vpt.images import find_images, open_image
from vpt.model import Prompted
from vpt.options import options_of
from vpt.predict import Prediction
from vpt.report.attention import attention_picture
from vpt.report.words import nearest_words
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
        VptError: the run is not there, an image is not there or broken, the model has a linear head, or what it learned
            goes with its own classes or without templates.
    """
    paths = _images(images)
    model = _model(run)
    if labels:
        _set_classes(model, labels, templates, default=["{}"])
    elif templates:
        raise VptError("--templates are sentences for --labels: give those too.")
    for start in range(0, len(paths), PREDICT_BATCH):
        some = paths[start : start + PREDICT_BATCH]
        yield from zip(some, model.predict(some), strict=True)


def new_classes(
    run: str | Path,
    classes: Sequence[str],
    out: str | Path,
    *,
    templates: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Prompted:
    """Save a model with what was learned and other class names, for `predict` and `vpt.load`.

    Args:
        run: a run directory, a saved model, or an image-text backbone by name.
        classes: the names to choose among.
        out: the folder that the model is saved to.
        templates: sentences for the names, each with one {}; those of the run by default.
        overwrite: whether a folder that holds something may be written to.

    Raises:
        VptError: the folder holds something, the model has a linear head, or what it learned goes with its own
            classes or without templates.
    """
    saving.check_free(out, overwrite=overwrite)
    if (Path(out) / "best").exists():
        raise VptError(f"{out} is a run directory, whose own model would be found before the new one: name another.")
    model = _model(run)
    _set_classes(model, classes, templates)
    model.save_pretrained(out, overwrite=overwrite)
    return model


def _set_classes(
    model: Prompted, classes: Sequence[str], templates: Sequence[str] | None, default: Sequence[str] | None = None
) -> None:
    if templates and model.method.template is not None:
        raise VptError(f"{model.method.name} learned what stands around class names: leave --templates out.")
    model.set_classes(classes, templates or default)


def words(run: str | Path, *, top: int = 5) -> list[dict[str, Any]]:
    """The `top` nearest words of each token of a run's learned context; see `vpt.report.words.nearest_words`."""
    return nearest_words(_model(run), top)


def attention(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    blocks: Sequence[int] | None = None,
    each_prompt: bool = False,
    overwrite: bool = False,
) -> None:
    """Write `vpt.report.attention.attention_picture` of image files, and of those below folders, to a file.

    Args:
        run: a run directory, a saved model, or an image-text backbone by name.
        images: files and folders.
        out: the picture; what its name ends in says which format it has.
        blocks: those to show; all by default.
        each_prompt: also show each prompt by itself.
        overwrite: whether a file that is there may be written over.

    Raises:
        VptError: the file is there, its format is not known, or what `attention_picture` raises.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    out = Path(out)
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if out.suffix.removeprefix(".").lower() not in known:
        raise VptError(f"{out} is no name of a picture: let it end in one of .{', .'.join(known)}.")
    if out.is_dir():
        raise VptError(f"{out} is a folder: name a file in it.")
    saving.check_free(out, overwrite=overwrite)
    paths = _images(images)
    figure = attention_picture(_model(run), paths, blocks=blocks, each_prompt=each_prompt)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


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
