"""What is asked of a finished run or a backbone: predictions, searches, looks inside, new classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vpt import files, saving
from vpt.assemble import create
from vpt.build import load_run
from vpt.capture import repeated
from vpt.devices import chosen_device
from vpt.errors import VptError
from vpt.images import find_images
from vpt.model import Prompted
from vpt.normalised import normalised
from vpt.predict import Prediction
from vpt.predict_files import BATCH, decoded, predict_files
from vpt.report.attention import attention_picture
from vpt.report.words import nearest_words
from vpt.towers import load as towers


def predict(
    run: str | Path,
    images: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    workers: int | None = None,
    weights: str | None = None,
    device: str | None = None,
) -> Iterator[tuple[Path, Prediction | VptError]]:
    """Predictions for image files, and for every image below folders; of a broken one the error that says so.

    Args:
        run: a run directory, a saved model, or with labels an image-text backbone by name.
        images: files and folders.
        labels: texts to choose among, where class names are the classifier.
        templates: sentences for them, each with one {}; the labels as they are by default.
        workers: processes that decode images; by default as many as are of use.
        weights: a local file with the backbone's weights.
        device: where the model runs; a GPU by default where there is one.

    Raises:
        VptError: the run or an image is not there, the model has a linear head, or what it learned goes with its own
            classes or without templates.
    """
    if templates and not labels:
        raise VptError("--templates are sentences for --labels: give those too.")
    paths = find_images_of(images)
    model = _model(run, weights, device)
    if labels:
        _set_classes(model, labels, templates, default=["{}"])
    return predict_files(model, paths, workers=workers)


def new_classes(
    run: str | Path,
    classes: Sequence[str],
    out: str | Path,
    *,
    templates: Sequence[str] | None = None,
    overwrite: bool = False,
    weights: str | None = None,
    device: str | None = None,
) -> Prompted:
    """Save a model with what was learned and other class names, for `predict` and `vpt.load`.

    Args:
        run: a run directory, a saved model, or an image-text backbone by name.
        classes: the names to choose among.
        out: the folder that the model is saved to.
        templates: sentences for the names, each with one {}; those of the run by default.
        overwrite: whether a folder that holds something may be written to.
        weights: a local file with the backbone's weights.
        device: where the model runs.

    Raises:
        VptError: the folder holds something, the model has a linear head, or what it learned goes with its own
            classes or without templates.
    """
    saving.check_out(out, overwrite=overwrite)
    if (Path(out) / "best").exists():
        raise VptError(f"{out} is a run directory, whose own model would be found before the new one: name another.")
    model = _model(run, weights, device)
    _set_classes(model, classes, templates)
    model.save_pretrained(out, overwrite=overwrite)
    return model


def _set_classes(
    model: Prompted, classes: Sequence[str], templates: Sequence[str] | None, default: Sequence[str] | None = None
) -> None:
    if templates and model.method.template is not None:
        raise VptError(f"{model.method.name} learned what stands around class names: leave --templates out.")
    model.set_classes(classes, templates or default)


def words(
    run: str | Path, *, top: int = 5, weights: str | None = None, device: str | None = None
) -> list[dict[str, Any]]:
    """The `top` nearest words of each token of a run's learned context; see `vpt.report.words.nearest_words`."""
    return nearest_words(_model(run, weights, device), top)


def attention(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    blocks: Sequence[int] | None = None,
    each_prompt: bool = False,
    overwrite: bool = False,
    weights: str | None = None,
    device: str | None = None,
) -> None:
    """Write `vpt.report.attention.attention_picture` of image files, and of those below folders, to a file.

    Args:
        run: a run directory, a saved model, or an image-text backbone by name.
        images: files and folders.
        out: the picture; what its name ends in says which format it has.
        blocks: those to show; all by default.
        each_prompt: also show each prompt by itself.
        overwrite: whether a file that is there may be written over.
        weights: a local file with the backbone's weights.
        device: where the model runs.

    Raises:
        VptError: the file is there or one of the images, its format is not known, or what `attention_picture` raises.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    out = Path(out)
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if out.suffix.removeprefix(".").lower() not in known:
        raise VptError(f"{out} is no name of a picture: let it end in one of .{', .'.join(known)}.")
    if out.is_dir():
        raise VptError(f"{out} is a folder: name a file in it.")
    saving.check_out(out, overwrite=overwrite)
    paths = find_images_of(images)
    check_no_input(out, paths)
    figure = attention_picture(_model(run, weights, device), paths, blocks=blocks, each_prompt=each_prompt)
    files.make_folder(out.parent)
    with files.replacing(out) as new:
        figure.savefig(new, dpi=150, format=out.suffix.removeprefix(".").lower())


def search(
    run: str | Path,
    text: str,
    folder: str | Path,
    *,
    top: int = 10,
    workers: int | None = None,
    weights: str | None = None,
    device: str | None = None,
) -> tuple[list[tuple[Path, float]], dict[Path, str]]:
    """The images below a folder that are most similar to a text, best first, with their cosine similarities.

    Args:
        run: an image-text run, a saved model, or an image-text backbone by name.
        text: what to look for.
        folder: of images.
        top: how many are given.
        workers: processes that decode images; by default as many as are of use.
        weights: a local file with the backbone's weights.
        device: where the model runs.

    Returns:
        The images with their similarities, and those that cannot be decoded with a sentence about each.

    Raises:
        VptError: the model has no text side, or there are no images.
    """
    paths, model = find_images_of([folder]), _model(run, weights, device)
    place = next(model.parameters()).device
    with torch.inference_mode():
        query = normalised(model.encode_text(model.tokenize([text]).to(place)))
    features_of = repeated(model.features, model, len(paths) // BATCH)
    scores: dict[Path, float] = {}
    skipped: dict[Path, str] = {}
    for some, images, broken in decoded(model, paths, workers=workers):
        skipped |= broken
        if len(images):
            with torch.inference_mode():
                similar = (normalised(features_of(images)) @ query.T)[:, 0].tolist()
            scores |= dict(zip([path for path in some if path not in broken], similar, strict=True))
    return sorted(scores.items(), key=lambda pair: -pair[1])[:top], skipped


def check_no_input(out: Path, paths: Sequence[Path]) -> None:
    """Nothing, if a file that is to be written is none of those that are read.

    Raises:
        VptError: it is one of them.
    """
    if any(out.resolve() == path.resolve() for path in paths):
        raise VptError(f"{out} is one of the images that are read: name another file to write.")


def find_images_of(images: Sequence[str | Path]) -> list[Path]:
    """Image files, and those below folders, each once.

    Raises:
        VptError: a file is not there, or a folder has no images.
    """
    paths: list[Path] = []
    for image in map(Path, images):
        # Of a name that is too long pathlib's own raises an error.
        found = find_images(image) if os.path.isdir(image) else [image]
        if not found or not os.path.exists(found[0]):
            raise VptError(
                f"there is no image {'in ' if os.path.isdir(image) else ''}{str(image)!r}: correct the path."
            )
        paths += found
    return list(dict.fromkeys(paths))


def _model(run: str | Path, weights: str | None, device: str | None) -> Prompted:
    """The model of a run; or of an image-text backbone as it is, such as "vpt/clip-nano"."""
    library = str(run).partition("/")[0]
    if library in towers.LIBRARIES and not Path(run).exists():
        model = create(str(run), "zero-shot", head="text", weights=weights)
    else:
        model = load_run(run, weights=weights)
    return model.to(chosen_device(device))
