"""A run as an exported file, checked on images of its own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vpt import experiment
from vpt.build import config_of, load_run
from vpt.devices import chosen_device
from vpt.engine.folder import CONFIG
from vpt.errors import VptError
from vpt.predict import ImageLike
from vpt.serving.export import Input, check_path, export
from vpt.use import find_images_of

# That the file is checked with.
IMAGES = 16


def export_run(
    run: str | Path,
    path: str | Path,
    *,
    images: Sequence[str | Path] | None = None,
    input: Input = "uint8",
    overwrite: bool = False,
    weights: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """`vpt.export` of the best model of a run, checked on real images.

    Args:
        run: a run directory, or a saved model.
        path: "….onnx" or "….pt2".
        images: files and folders to check with; by default images of the run's own data, of those not trained on where
            there are any.
        input: as `vpt.export` takes it.
        overwrite: whether a file that is there may be written over.
        weights: a local file with the backbone's weights.
        device: where the model that the file is compared with runs.

    Raises:
        VptError: what `vpt.export` raises; or there are no images to check with.
    """
    check_path(Path(path), overwrite=overwrite)
    chosen: Sequence[ImageLike] = find_images_of(images)[:IMAGES] if images else _images_of(Path(run), Path(path))
    model = load_run(run, weights=weights).to(chosen_device(device))
    return export(model, path, images=chosen, input=input, overwrite=overwrite)


def _images_of(run: Path, path: Path) -> Sequence[ImageLike]:
    """Some images of a run's own data, one here and one there."""
    if not (run / CONFIG).is_file():
        raise VptError(
            f"{run} is no run directory, whose images {path.name} could be checked with: name some by --images."
        )
    try:
        data = experiment.data_of(config_of(run), run, decode=False)
    except VptError as error:
        reason = str(error).rstrip(".")
        raise VptError(f"{reason}; to check {path.name} with other images name them by --images.") from error
    splits = data.splits()
    samples = next(splits[name] for name in ("val", "test", "train") if name in splits)
    step = max(1, len(samples) // IMAGES)
    return [samples.image(index) for index in range(0, len(samples), step)][:IMAGES]
