"""What a page about runs shows, from their folders, data and models; and the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpt import saving
from vpt.build import config_of, load_run
from vpt.config import Config
from vpt.data.base import DataSet, Samples
from vpt.data.pairs import PairSet
from vpt.devices import chosen_device
from vpt.engine.folder import CONFIG, ENVIRONMENT, RESULT
from vpt.engine.outputs import read_predictions
from vpt.engine.results import read_history, read_result
from vpt.errors import VptError
from vpt.experiment import data_of
from vpt.files import write
from vpt.model import Prompted
from vpt.report import sections as made
from vpt.report.looks import looks
from vpt.report.page import page
from vpt.report.words import nearest_words

Rows = list[dict[str, Any]]


@dataclass
class Run:
    """What is known of a run.

    Attributes:
        path: of its folder.
        name: in the page.
        result: of result.json.
        history: rows of metrics.jsonl.
        predictions: rows of predictions.csv; none of an older run.
        config: as it was resolved.
        environment: as YAML would show it.
        classes: names of its classes.
        images: splits of its data, where those are still there.
        words: nearest words of a learned context.
        looks: pictures of attention.
        missing: what cannot be shown, and why.
    """

    path: Path
    name: str
    result: dict[str, Any]
    history: Rows
    predictions: Rows
    config: str
    environment: str
    classes: tuple[str, ...] = ()
    images: dict[str, Samples] = field(default_factory=dict)
    words: Rows = field(default_factory=list)
    looks: Rows = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def image(self, split: str, name: str) -> Any:
        """An image by the name that it has in predictions; None where it is no longer there."""
        samples = self.images.get(split)
        if samples is None:
            return None
        places = self.places(split)
        with suppress(VptError):
            return samples.image(places[name]) if name in places else None
        return None

    def places(self, split: str) -> dict[str, int]:
        """Places of a split's images by their names."""
        samples = self.images[split]
        return {samples.name(index): index for index in range(len(samples))}


def report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    images: int = 12,
    weights: str | None = None,
    device: str | None = None,
) -> Path:
    """One HTML page about a run, or about several side by side, that stands alone.

    Args:
        runs: run directories that are finished.
        out: the page.
        overwrite: whether a file that is there may be written over.
        images: thumbnails of mistakes, and of least sure hits.
        weights: a local file with the backbone's weights.
        device: where the models run, for attention.

    Returns:
        Where it was written.

    Raises:
        VptError: something is there, its name does not end in .html, or a folder is no finished run.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise VptError(f"{out} is no name of a page: let it end in .html.")
    if out.is_dir():
        raise VptError(f"{out} is a folder: name a file in it.")
    saving.check_out(out, overwrite=overwrite)
    paths = list(dict.fromkeys(map(Path, runs)))
    names = _names(paths)
    found = [_read(path, name, weights=weights, device=device) for path, name in zip(paths, names, strict=True)]
    title = names[0] if len(names) == 1 else f"{len(names)} runs side by side"
    sections = made.sections(found, images=images)
    text = page(title, sections, kind="Report", subtitle=made.subtitle(found))
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, text)
    return out


def _names(paths: Sequence[Path]) -> list[str]:
    """As short as they can be and differ."""
    for length in range(1, 6):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str, *, weights: str | None, device: str | None) -> Run:
    if not (path / CONFIG).is_file():
        raise VptError(f"{path} is no run directory: name a folder that `vpt train` wrote.")
    if not (path / RESULT).is_file():
        raise VptError(f"{path} is not finished: go on with it by vpt train … --resume, and report it then.")
    result, config = read_result(path / RESULT), config_of(path)
    environment = path / ENVIRONMENT
    run = Run(
        path,
        name,
        result,
        read_history(path / "metrics.jsonl"),
        read_predictions(path),
        (path / CONFIG).read_text("utf-8"),
        environment.read_text("utf-8", errors="replace") if environment.is_file() else "",
    )
    if result["test"] and not run.predictions and "top1" in result["test"]:
        run.missing.append(
            "What was said of each image was not kept yet when this run was made: train it again to see it."
        )
    _add_data(run, config)
    _add_model(run, weights, device)
    return run


def _check_classes(run: Run) -> None:
    """Nothing, if the labels and counts that are kept are of as many classes as there are.

    Raises:
        VptError: they are of others.
    """
    count, counts = len(run.classes), run.result["confusion"] or []
    highest = max((max(row["label"], row["said"]) for row in run.predictions), default=-1)
    if count and (highest >= count or len(counts) not in (0, count)):
        raise VptError(f"{run.path} is damaged (it tells of other classes than it has): run it again with --overwrite.")


def _add_data(run: Run, config: Config) -> None:
    try:
        data: DataSet | PairSet = data_of(config, run.path, decode=False)
    except VptError as error:
        run.missing.append(f"The images are not shown: {error}")
        return
    if isinstance(data, DataSet):
        run.images, run.classes = data.splits(), data.classes
        _check_classes(run)


def _add_model(run: Run, weights: str | None, device: str | None) -> None:
    try:
        model = load_run(run.path, weights=weights).to(chosen_device(device))
    except VptError as error:
        run.missing.append(f"Attention and words are not shown: {error}")
        return
    run.classes = run.classes or model.classes
    _check_classes(run)
    if model.text is not None and model.method.text_prompts.context(None) is not None and not model.method.conditional:
        with suppress(VptError):
            run.words = nearest_words(model)
    _add_looks(run, model)


def _add_looks(run: Run, model: Prompted) -> None:
    """Attention over a few images of different classes, of those that are shown anyway."""
    split = "test" if run.result["test"] and "test" in run.images else "val" if "val" in run.images else None
    if split is None:
        return
    samples = run.images[split]
    said = {row["image"]: row for row in run.predictions if row["split"] == split}
    chosen: dict[int, int] = {}
    for index, label in enumerate(samples.labels):
        chosen.setdefault(label, index)
    places = list(chosen.values())[:: max(1, len(chosen) // 4)][:4]
    captions = []
    for place in places:
        name, row = run.classes[samples.labels[place]], said.get(samples.name(place))
        captions.append(name if row is None else f"{name}, said {run.classes[row['said']]} ({row['score']:.0%})")
    try:
        run.looks = looks(model, [samples.image(place) for place in places], captions)
    except VptError as error:
        run.missing.append(f"Attention is not shown: {error}")
