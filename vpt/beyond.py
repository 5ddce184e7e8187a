"""A run beyond its test images: images of no class that it knows, shifted ones, and the line from frozen to tuned."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from vpt import files
from vpt.build import build_model, config_of, load_run, undecoded
from vpt.config import Config
from vpt.data import load_whole
from vpt.data.base import DataSet, Files, Samples
from vpt.data.joined import joined_samples
from vpt.data.shifts import SHIFTS, Shifted
from vpt.devices import chosen_device
from vpt.engine.evaluate import evaluate
from vpt.engine.folder import CONFIG, MINUTE, RESULT, Lock
from vpt.engine.line import kind_of, line
from vpt.engine.outputs import joined
from vpt.engine.results import read_result
from vpt.errors import VptError
from vpt.experiment import data_of
from vpt.images import find_images
from vpt.model import Prompted
from vpt.tasks.unknown import known_score, separation


def unknown(run: str | Path, folder: str | Path, *, weights: str | None = None) -> dict[str, Any]:
    """How well a run tells its test images from those below a folder, which are of no class that it knows; kept.

    Args:
        run: a run directory of a classifier.
        folder: of images.
        weights: a local file with the backbone's weights.

    Returns:
        What `vpt.tasks.unknown.separation` gives, with "score", "known", "unknown" (images) and "folder".

    Raises:
        VptError: there is no such run or folder, images of the run's own classes are below it, or the run has no
            classes or no test images.
    """
    run, config, data = _opened(run)
    paths = find_images(Path(folder)) if os.path.isdir(folder) else []
    if not paths:
        raise VptError(f"there are no images below {str(folder)!r}: correct the path.")
    _check_strange(paths, run, config, data)
    model = load_run(run, weights=weights).to(chosen_device())
    scale = None if model.text is None else model.text.scale().item()
    known, others = (
        known_score(_logits(model, samples, config), scale) for samples in (_test(data), Files(paths, [0] * len(paths)))
    )
    found = {
        "score": "maximum softmax probability" if scale is None else "maximum concept matching (MCM)",
        **separation(known, others),
        "known": len(known),
        "unknown": len(others),
        "folder": str(folder),
    }
    _keep(run, {"unknown": found})
    return found


def along_the_line(
    run: str | Path, shifts: Sequence[str] = (), *, weights: str | None = None, progress: bool = True
) -> dict[str, Any]:
    """Accuracy of a run along the line from the frozen model to the tuned one, on test images and under shifts; kept.

    Args:
        run: a run directory of a classifier.
        shifts: names in `vpt.data.shifts.SHIFTS`; "all" for all of them.
        weights: a local file with the backbone's weights.
        progress: show it.

    Returns:
        "of", what is interpolated ("weights", "logits" or "features"), and "points", by the name of what was measured
        ("test", then shifts and the data set's own parts), rows as `vpt.engine.line.line` gives them.

    Raises:
        VptError: there is no such run or shift, or the run has no classes or no test images.
    """
    run, config, data = _opened(run)
    test = _test(data)
    names = list(SHIFTS) if "all" in shifts else list(dict.fromkeys(shifts))
    parts: dict[str, Samples] = {"test": test} | {name: Shifted(test, name) for name in names}
    parts |= {name: test.subset(members) for name, members in data.groups.items()}
    model, base = load_run(run, weights=weights), build_model(config.model_copy(update={"start": None}), data)
    options = _options(config) | {"progress": progress}
    points = {name: line(model, base, samples, **options) for name, samples in parts.items()}
    found = {"of": kind_of(model), "points": points}
    _keep(run, {"line": found})
    return found


def _opened(run: str | Path) -> tuple[Path, Config, DataSet]:
    run = Path(run)
    if not (run / CONFIG).is_file():
        raise VptError(f"{run} is no run directory: name a folder that `vpt train` wrote.")
    config = config_of(run)
    data = data_of(config, run, decode=False)
    if not isinstance(data, DataSet):
        raise VptError(f"{run} was trained with captions and knows no classes: name a run of a classifier.")
    return run, config, data


def _check_strange(paths: Sequence[Path], run: Path, config: Config, data: DataSet) -> None:
    """Nothing, if none of these files is of a class of the run, drawn for it or not.

    Raises:
        VptError: some are.
    """
    whole = load_whole(**undecoded(config.data))
    assert isinstance(whole, DataSet)
    samples = joined_samples(whole)
    files = [samples.file(index) for index, label in enumerate(samples.labels) if whole.classes[label] in data.classes]
    known = {path.resolve() for path in files if path is not None}
    met = [path for path in paths if path.resolve() in known]
    if met:
        raise VptError(
            f"{len(met)} of the {len(paths)} images to be taken for unknown are of classes that {run} knows, first "
            f"{met[0]}: name a folder that holds none of the run's own images."
        )


def _test(data: DataSet) -> Samples:
    if data.test is None or not len(data.test):
        raise VptError(f"{data.name} has no test split to measure: there is {', '.join(data.splits())}.")
    return data.test


def _options(config: Config) -> dict[str, Any]:
    return {key: config.train[key] for key in ("batch_size", "precision", "workers") if key in config.train}


class _Unlabelled(Dataset[Any]):
    """Images with a label that nothing looks at."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples.image(index), 0


def _logits(model: Prompted, samples: Samples, config: Config) -> torch.Tensor:
    outputs: list[Any] = []
    evaluate(model, _Unlabelled(samples), outputs=outputs, **_options(config))
    return joined(outputs)[0]


def _keep(run: Path, found: dict[str, Any]) -> None:
    """Add figures to the trust of a finished run's result."""
    path = run / RESULT
    with Lock(run, patience=MINUTE):
        if path.is_file():
            result = read_result(path)
            result["trust"] = result.get("trust", {}) | found
            files.write(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
