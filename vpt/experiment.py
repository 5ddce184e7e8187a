"""One experiment from its config to its result: trained, gone on with, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vpt import config as configs
from vpt import saving
from vpt.build import as_kept, build_model, check, config_of, load_run, read_data, templates_for, undecoded
from vpt.config import Config, differences
from vpt.data import DEALING, READING, load_again, load_whole
from vpt.data.base import DataSet, Samples
from vpt.data.joined import everything
from vpt.data.members import Members, learned_in, members
from vpt.data.pairs import Pairs, PairSet
from vpt.data.unlabelled import learned_from
from vpt.engine.batch import largest_batch
from vpt.engine.callbacks import Callback
from vpt.engine.evaluate import evaluate
from vpt.engine.features import AT_ONCE
from vpt.engine.fit import fit
from vpt.engine.folder import CONFIG, IMAGES, RESULT, has_saved
from vpt.engine.outputs import joined, trusted
from vpt.engine.results import read_json, read_result
from vpt.engine.rundir import RunDir
from vpt.errors import VptError
from vpt.model import Prompted
from vpt.tasks.image_text import ImageText
from vpt.unused import tell_unused

ANEW = "run it again with --overwrite"


def train(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    test: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> tuple[Prompted, dict[str, Any]]:
    """Run one experiment: data, model, training, and the test split once, at the end.

    Args:
        config: the experiment.
        resume: go on with the run that lies in the run directory.
        overwrite: begin anew; it is deleted when the new one has come to its first save.
        test: measure the test split; without it `result["test"]` is empty, and another call with resume does it later.
        progress: show it.
        callbacks: of the training, as `fit` calls them.

    Returns:
        The model at its best epoch, and what result.json holds.

    Raises:
        VptError: a mistake in the config, or a run that is to be resumed with another config, or other images, than it
            was begun with.
    """
    config = check(config)
    with RunDir(config.out or "runs/run", resume=resume, overwrite=overwrite, config=as_kept(config)) as run:
        if resume:
            check_unchanged(config, run.path)
        result = run.result()
        if result is None:
            return _made(run, config, test=test, progress=progress, callbacks=callbacks)
        return _taken_up(run, config, result, test=test, progress=progress)


def _made(
    run: RunDir, config: Config, *, test: bool, progress: bool, callbacks: Sequence[Callback]
) -> tuple[Prompted, dict[str, Any]]:
    """A run begun, or gone on with."""
    data = data_of(config, run.path, trains=True) if run.resume else read_data(config)
    if not len(data.train):
        raise VptError(f"{data.name} has no training images: train on other data, then measure the run on it.")
    model = build_model(config, data)
    tell_unused(config, model, data)
    if model.method.classifier.searches and isinstance(data, DataSet):
        _check_apart(data, model)
    if not (run.resume and (run.path / IMAGES).is_file()):
        run.facts[IMAGES] = members(data).model_dump()
    task = {"task": ImageText(**config.task)} if isinstance(data, PairSet) else {}
    options = {**config.train, **task, "callbacks": callbacks}
    fitted = fit(model, _learned_from(data), data.val, **options, seed=config.seed, run_dir=run, progress=progress)
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
        "bytes": (run.path / "best" / saving.TENSORS).stat().st_size,
    }
    if test and data.test:
        result = _with_test(result, model, data, config, run, progress)
    return model, run.write_result(result)


def _taken_up(
    run: RunDir, config: Config, result: dict[str, Any], *, test: bool, progress: bool
) -> tuple[Prompted, dict[str, Any]]:
    """A finished run, whose test split is measured now if it was left alone."""
    data = data_of(config, run.path)
    # Made as it was: weights that a seed drew are not to be had by name.
    model = build_model(config.model_copy(update={"start": None}), data)
    tensors, facts = saving.read(run.path / "best")
    if facts.backbone.fingerprint != saving.fingerprint(model.frozen_state()):
        raise VptError(f"{run.path} was trained on other weights of {config.backbone['name']} than these: {ANEW}.")
    model.load_tuned_state(tensors)
    model.eval()
    if test and data.test and not result["test"]:
        run.begin()
        result = run.write_result(_with_test(result, model, data, config, run, progress))
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
    options = {**config.train, "seed": config.seed, "val": data.val}
    size, accumulate = largest_batch(model, _learned_from(data), limit=limit, progress=progress, **options)
    return {"batch_size": size, "accumulate": accumulate}


def add_test(config: Config, *, progress: bool = True) -> dict[str, Any]:
    """The result of a finished run that left the test split alone, with it measured, and kept.

    Raises:
        VptError: the data or the weights are no longer those of the run.
    """
    config = check(config)
    with RunDir(config.out or "runs/run", resume=True, config=as_kept(config)) as run:
        check_unchanged(config, run.path)
        return _taken_up(run, config, read_result(run.path / RESULT), test=True, progress=progress)[1]


def data_of(config: Config, folder: Path, *, decode: bool = True, trains: bool = False) -> DataSet | PairSet:
    """The data of the run in `folder`, in its own splits, whatever has been added to them since.

    Args:
        config: of the run.
        folder: of the run; one that was not begun yet has the splits that the config makes.
        decode: whether to see that images can be decoded; False to see which they are.
        trains: with the images without labels that it learns from.

    Raises:
        VptError: the data are no longer those of the run; or there are new images, and data.new=skip is not set.
    """
    section = dict(config.data if decode else undecoded(config.data))
    if not trains:
        section.pop("unlabelled", None)
    if (folder / IMAGES).is_file():
        kept = Members(**read_json(folder / IMAGES, Members, ANEW))
        return load_again(kept=kept, **section)
    data = read_data(config.model_copy(update={"data": section}))
    if (folder / RESULT).is_file():
        # Of a version that kept no names.
        known, found = read_result(folder / RESULT)["data"]["digests"], data.facts()["digests"]
        if any(found.get(split) != digest for split, digest in known.items()):
            raise VptError(f"{data.name} holds other images than {folder} was run with: {ANEW}.")
    return data


def check_unchanged(config: Config, folder: Path) -> None:
    """Nothing, if the run that lies in `folder`, if any, was begun with the checked `config`.

    Raises:
        VptError: it was begun with another one, in keys that a result may depend on.
    """
    if not (folder / CONFIG).is_file():
        if has_saved(folder):
            raise VptError(
                f"{folder} has lost its {CONFIG}, which says what it was run with: put it back, or say --overwrite."
            )
        return
    changes = differences(as_kept(config_of(folder)), as_kept(config))
    if changes:
        raise VptError(
            f"{folder} was run with another config ({', '.join(changes)}): take that one, say --overwrite, or set "
            f"another out=…, with start={folder} to go on from what it has learned."
        )


def measure(
    run: str | Path, split: str | None = None, overrides: Sequence[str] = (), *, weights: str | None = None
) -> dict[str, Any]:
    """Metrics of a run on one of its splits, or on other data.

    Args:
        run: a run directory; or a saved model, with data among the overrides.
        split: "train", "val" or "test"; or "all" for every image. By default "test" of the run's own data, and all of
            other data.
        overrides: "data.key=value" assignments.
        weights: a local file with the backbone's weights.

    Returns:
        The run, the split, how many images it has, and their metrics.

    Raises:
        VptError: the run's data are no longer those it was run with, or a mistake in what was asked for.
    """
    run = Path(run)
    for assignment in overrides:
        if assignment.partition("=")[0].partition(".")[0] != "data":
            raise VptError(f"{assignment!r} does not change the data, and the model is as it was trained.")
        if assignment.startswith("data.unlabelled"):
            raise VptError(f"{assignment!r} has no labels to measure by: give images of known classes as data.path=….")
    if not (run / CONFIG).is_file():
        if (run / saving.FACTS).is_file():
            return _measure_saved(run, split, overrides, weights)
        raise VptError(f"{run} is no run directory: name a folder that `vpt train` wrote.")
    own, config = (_measured(config_of(run, changes)) for changes in ((), overrides))
    others = source_of(own) != source_of(config)
    split = split or ("all" if others else "test")
    if others and split == "all":
        data = load_whole(**config.data)
    elif others:
        data = read_data(config)
    elif any(own.data.get(key) != config.data.get(key) for key in DEALING):
        data = read_data(config)
        if split == "test":
            check_unseen(data, run)
    else:
        data = data_of(config, run)
    values = measure_model(load_run(run, weights=weights), data, config, split)
    return {"run": str(run), "split": split, "images": len(_split(data, split)), **values}


def check_unseen(data: DataSet | PairSet, run: Path) -> None:
    """Nothing, if a run neither learned from test images of its own data dealt anew, nor was selected by any.

    Raises:
        VptError: it has met some.
    """
    if not (run / IMAGES).is_file() or data.test is None:
        return
    met = learned_in(data, Members(**read_json(run / IMAGES, Members, ANEW)))
    if met:
        raise VptError(
            f"{len(met)} of the {len(data.test)} test images of {data.name} dealt so are training or validation images "
            f"of {run}, first {met[0]}: change nothing of how its images are dealt, or name other data."
        )


def _measure_saved(folder: Path, split: str | None, overrides: Sequence[str], weights: str | None) -> dict[str, Any]:
    """The same for a saved model, which knows of no data: all of those that are named, or a split of them."""
    if not overrides:
        raise VptError(f"{folder} is a saved model, and knows of no data: say which, as data=NAME or data.path=FOLDER.")
    model = load_run(folder, weights=weights)
    values: dict[str, Any] = {part: model.recipe[part]["name"] for part in ("backbone", "method")}
    values |= {"data": {"name": "folder"}, "train": {}, "templates": list(model.templates)}
    config = check(configs.parse(configs.changed(values, overrides)))
    split = split or "all"
    data = load_whole(**config.data) if split == "all" else read_data(config)
    return {
        "run": str(folder),
        "split": split,
        "images": len(_split(data, split)),
        **measure_model(model, data, config, split),
    }


def _measured(config: Config) -> Config:
    """The same without what is of training alone."""
    return config.model_copy(update={"data": {k: v for k, v in config.data.items() if k != "unlabelled"}})


def source_of(config: Config) -> dict[str, Any]:
    """Which images a checked config reads, but for how they are dealt and read."""
    values = {key: value for key, value in config.data.items() if key not in (*DEALING, *READING)}
    return values | ({"path": Path(values["path"]).resolve()} if "path" in values else {})


def measure_model(
    model: Prompted,
    data: DataSet | PairSet,
    config: Config,
    split: str = "test",
    *,
    progress: bool = True,
    outputs: list[Any] | None = None,
) -> dict[str, Any]:
    """Metrics of a trained model on a split of `data`, whose classes it is given if they are others.

    Args:
        model: its classes are changed, where class names are the classifier; a model with a head keeps its own, among
            which the data's are found by name.
        data: what it is measured on.
        config: a checked one, for the templates and the size of batches.
        split: "train", "val", "test" or "all".
        progress: show it.
        outputs: is given logits (B, C) and labels (B,) of each batch.

    Raises:
        VptError: there is no such split, or a model with a head does not know a class of the data.
    """
    if isinstance(data, DataSet) and data.classes != model.classes and model.head is None:
        model.set_classes(data.classes, templates_for(config.templates, data))
    values = _evaluate(model, data, split, config, progress, outputs)
    values.pop("confusion", None)
    return values


def _evaluate(
    model: Prompted,
    data: DataSet | PairSet,
    split: str,
    config: Config,
    progress: bool,
    outputs: list[Any] | None = None,
) -> dict[str, Any]:
    options = {
        key: config.train[key] for key in ("batch_size", "precision", "compile", "workers") if key in config.train
    }
    if "batch_size" in options:
        # A batch of features may be larger than one of images can be.
        options["batch_size"] = min(options["batch_size"], AT_ONCE)
    groups = data.groups if split == "test" and isinstance(data, DataSet) else None
    return evaluate(model, _split(data, split), **options, progress=progress, groups=groups, outputs=outputs)


def _learned_from(data: DataSet | PairSet) -> Samples | Pairs:
    return learned_from(data) if isinstance(data, DataSet) else data.train


def _split(data: DataSet | PairSet, split: str) -> Samples | Pairs:
    if split == "all":
        return everything(data)
    if split not in data.splits():
        raise VptError(f"{data.name} has no {split} split: there is {', '.join([*data.splits(), 'all'])}.")
    return data.splits()[split]


def _with_test(
    result: dict[str, Any], model: Prompted, data: DataSet | PairSet, config: Config, run: RunDir, progress: bool
) -> dict[str, Any]:
    outputs: dict[str, list[Any]] = {"val": [], "test": []}
    if isinstance(data, DataSet) and data.val is not None and len(data.val):
        _evaluate(model, data, "val", config, progress, outputs["val"])
    test = _evaluate(model, data, "test", config, progress, outputs["test"])
    if isinstance(data, DataSet):
        trust, rows = trusted({split: (data.splits()[split], *joined(seen)) for split, seen in outputs.items() if seen})
        run.write_predictions(rows)
        result = result | {"trust": trust}
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
