"""One experiment from its config to its result: trained, gone on with, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vpt import config as configs
from vpt.build import build_model, check, load_run, read_data, templates_for
from vpt.config import Config, differences, plain
from vpt.data.base import DataSet
from vpt.data.pairs import PairSet
from vpt.data.transforms import as_transform
from vpt.engine.batch import largest_batch
from vpt.engine.evaluate import evaluate
from vpt.engine.fit import fit
from vpt.engine.folder import CONFIG
from vpt.engine.rundir import RunDir
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.saving import TENSORS
from vpt.tasks.image_text import ImageText


def train(
    config: Config, *, resume: bool = False, overwrite: bool = False, test: bool = True, progress: bool = True
) -> tuple[Prompted, dict[str, Any]]:
    """Run one experiment: data, model, training, and the test split once, at the end.

    Args:
        config: the experiment.
        resume: go on with the run that lies in the run directory.
        overwrite: delete it.
        test: measure the test split; without it `result["test"]` is empty, and `add_test` does it later.
        progress: show it.

    Returns:
        The model at its best epoch, and what result.json holds.

    Raises:
        VptError: a mistake in the config, or a run that is to be resumed with another config than it was begun with.
    """
    config = check(config)
    run = RunDir(config.out or "runs/run", resume=resume, overwrite=overwrite)
    if resume:
        check_unchanged(config, run.path)
    data = read_data(config)
    if not len(data.train):
        raise VptError(f"{data.name} has no training images: train on other data, then measure the run on it.")
    model = build_model(config, data)
    if model.method.searches and isinstance(data, DataSet):
        _check_apart(data, model)
    # Named wrongly, it would otherwise be told when the run has been begun.
    as_transform(config.train.get("augment", "none"), model.preprocessing)
    run.begin(plain(config))
    task = {"task": ImageText(**config.task)} if isinstance(data, PairSet) else {}
    options = {**config.train, **task}
    fitted = fit(model, data.train, data.val, **options, seed=config.seed, run_dir=run, progress=progress)
    result: dict[str, Any] = {
        "method": config.method["name"],
        "backbone": config.backbone["name"],
        "data": data.facts(),
        "seed": config.seed,
        "best_epoch": fitted.best_epoch,
        "stopped_early": fitted.stopped_early,
        "val": {key.removeprefix("val/"): value for key, value in fitted.metrics.items()},
        "test": {},
        "confusion": None,
        "tuned_parameters": model.num_tuned(),
        "share": model.num_tuned() / sum(p.numel() for p in model.parameters()),
        "seconds": fitted.seconds,
        "bytes": (run.path / "best" / TENSORS).stat().st_size,
    }
    if test and data.test:
        result = _with_test(result, model, data, config, run, progress)
    run.write_result(result)
    return model, result


def fit_batch(config: Config, *, limit: int | None = None, progress: bool = True) -> dict[str, int]:
    """`batch_size` and `accumulate` for `config.train`: the largest batch that fits, and as many images a step.

    Args:
        config: the experiment; nothing of it is written.
        limit: the largest batch to try, which a CPU needs.
        progress: say what is tried.

    Raises:
        VptError: a mistake in the config, or one of `largest_batch`.
    """
    config = check(config)
    data = read_data(config)
    if not len(data.train):
        raise VptError(f"{data.name} has no training images: there is no batch to find.")
    model = build_model(config, data)
    options = {**config.train, "seed": config.seed}
    size, accumulate = largest_batch(model, data.train, limit=limit, progress=progress, **options)
    return {"batch_size": size, "accumulate": accumulate}


def add_test(config: Config, result: dict[str, Any], *, progress: bool = True) -> dict[str, Any]:
    """The result of a finished run that left the test split alone, with it measured on best/, and kept.

    Raises:
        VptError: the data are no longer those of the run.
    """
    run, data = RunDir(config.out or "runs/run", resume=True), read_data(config)
    if data.facts()["digests"] != result["data"]["digests"]:
        raise VptError(f"{data.name} holds other images than {run.path} was run with: run it again with --overwrite.")
    result = _with_test(result, load_run(run.path), data, config, run, progress)
    run.write_result(result)
    return result


def check_unchanged(config: Config, folder: Path) -> None:
    """Nothing, if the run that lies in `folder`, if any, was begun with the checked `config`.

    Raises:
        VptError: it was begun with another one, in keys that a result may depend on.
    """
    if not (folder / CONFIG).is_file():
        return
    changes = differences(plain(check(configs.read(folder / CONFIG))), plain(config))
    if changes:
        raise VptError(
            f"{folder} was run with another config ({', '.join(changes)}): take that one, say --overwrite, or set "
            "another out=…."
        )


def measure(run: str | Path, split: str = "test", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Metrics of a finished run on one of its splits, or on other data.

    Args:
        run: a run directory.
        split: "train", "val" or "test".
        overrides: "data.key=value" assignments.
    """
    run = Path(run)
    if not (run / "config.yaml").is_file():
        raise VptError(f"{run} is no run directory: name a folder that `vpt train` wrote.")
    for assignment in overrides:
        if not assignment.startswith("data"):
            raise VptError(f"{assignment!r} does not change the data, and the model is as it was trained.")
    config = check(configs.read(run / "config.yaml", overrides))
    data = read_data(config)
    values = measure_model(load_run(run), data, config, split)
    return {"run": str(run), "split": split, "images": len(data.splits()[split]), **values}


def measure_model(
    model: Prompted, data: DataSet | PairSet, config: Config, split: str = "test", *, progress: bool = True
) -> dict[str, Any]:
    """Metrics of a trained model on a split of `data`, whose classes it is given if they are others.

    Args:
        model: its classes are changed, where class names are the classifier.
        data: what it is measured on.
        config: a checked one, for the templates and the size of batches.
        split: "train", "val" or "test".
        progress: show it.

    Raises:
        VptError: there is no such split, or the model has to keep its classes.
    """
    if isinstance(data, DataSet) and data.classes != model.classes:
        if model.head is not None:
            raise VptError(f"the model knows other classes than {data.name}: {', '.join(model.classes[:5])}, ….")
        model.set_classes(data.classes, templates_for(config.templates, data))
    values = _evaluate(model, data, split, config, progress)
    values.pop("confusion", None)
    return values


def _evaluate(model: Prompted, data: DataSet | PairSet, split: str, config: Config, progress: bool) -> dict[str, Any]:
    if split not in data.splits():
        raise VptError(f"{data.name} has no {split} split: there is {', '.join(data.splits())}.")
    options = {
        key: config.train[key] for key in ("batch_size", "precision", "compile", "workers") if key in config.train
    }
    groups = data.groups if split == "test" and isinstance(data, DataSet) else None
    return evaluate(model, data.splits()[split], **options, progress=progress, groups=groups)


def _with_test(
    result: dict[str, Any], model: Prompted, data: DataSet | PairSet, config: Config, run: RunDir, progress: bool
) -> dict[str, Any]:
    test = _evaluate(model, data, "test", config, progress)
    confusion = test.pop("confusion", None)
    run.save_best(model, _prefixed("val", result["val"]) | _prefixed("test", test))
    return result | {"test": test, "confusion": confusion}


def _check_apart(data: DataSet, model: Prompted) -> None:
    """Nothing, if what a method chooses by is no test image."""
    if data.val is None or data.test is None:
        return
    tested = {data.test.name(index) for index in range(len(data.test))}
    shared = sum(data.val.name(index) in tested for index in range(len(data.val)))
    if shared:
        raise VptError(
            f"{shared} validation images of {data.name} are among its test images, and {model.method.name} chooses by "
            "them: have others dealt (of imagenet with data.val=train), or set method.grid to null."
        )


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{key}": value for key, value in values.items()}
