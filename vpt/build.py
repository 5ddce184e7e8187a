"""From an experiment's config to a trained, measured and saved model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vpt import config as configs
from vpt import data as datasets
from vpt.assemble import create, load
from vpt.config import Config
from vpt.data.base import DataSet
from vpt.engine.evaluate import evaluate
from vpt.engine.fit import fit
from vpt.engine.rundir import CONFIG, RunDir
from vpt.errors import VptError
from vpt.images import find_images, open_image
from vpt.methods import find
from vpt.model import Prompted
from vpt.options import checked, options_of
from vpt.predict import Prediction
from vpt.saving import TENSORS
from vpt.towers import load as towers

PREDICT_BATCH = 32
RESERVED = ("run_dir", "resume", "overwrite", "progress", "seed")
NEUTRAL = ("out", "seeds", "compare", "select", "select_seeds", "data.check", "data.cache", "train.workers")


def check(config: Config) -> Config:
    """`config` with every option checked and typed, before data are read or weights are loaded.

    Raises:
        VptError: an unknown name or option, or a value of the wrong type.
    """
    method, data, backbone = (_options(section) for section in (config.method, config.data, config.backbone))
    return config.model_copy(
        update={
            "backbone": {"name": config.backbone["name"]} | towers.checked_options(config.backbone["name"], backbone),
            "method": {"name": config.method["name"]} | checked(find(config.method["name"]), method, "method"),
            "data": {"name": config.data["name"]} | datasets.checked_options(config.data["name"], data),
            "train": checked(fit, config.train, "train", given=RESERVED),
        }
    )


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
    run.begin(plain(config))
    fitted = fit(model, data.train, data.val, **config.train, seed=config.seed, run_dir=run, progress=progress)
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
    before, now = (_flat(plain(c)) for c in (check(configs.read(folder / CONFIG)), config))
    keys = [key for key in before | now if before.get(key) != now.get(key)]
    if keys:
        changes = (f"{key} was {before.get(key, 'not set')} and is {now.get(key, 'not set')}" for key in keys)
        raise VptError(
            f"{folder} was run with another config ({', '.join(changes)}): take that one, say --overwrite, or set "
            "another out=…."
        )


def read_data(config: Config) -> DataSet:
    """The data set of a checked config; the experiment's seed is that of splits and shots, if none is given."""
    options = {"seed": config.seed} | _options(config.data)
    data = datasets.load(config.data["name"], **options)
    if not isinstance(data, DataSet):
        raise VptError(f"{data.name} holds images with captions, and this run needs classes: choose other data.")
    return data


def build_model(config: Config, data: DataSet) -> Prompted:
    """The model of a checked config, with a head for the classes of `data`."""
    torch.manual_seed(config.seed)
    known = {"pretrained", "weights", "image_size"}
    backbone = _options(config.backbone)
    return create(
        config.backbone["name"],
        config.method["name"],
        classes=data.classes,
        **{key: value for key, value in backbone.items() if key in known},
        backbone_options={key: value for key, value in backbone.items() if key not in known},
        **_options(config.method),
    )


def pretrain(config: Config, *, resume: bool = False, overwrite: bool = False, progress: bool = True) -> Path:
    """Train a backbone from scratch by the same loop, and write it, in half precision, in timm's format.

    Returns:
        The folder, which "timm/local-dir:FOLDER" loads.
    """
    from vpt.towers.timm import export

    if config.method["name"] != "full":
        raise VptError(f"pretraining trains the whole backbone: set method=full, not {config.method['name']}.")
    model, result = train(config, resume=resume, overwrite=overwrite, progress=progress)
    assert config.out is not None
    folder = config.out / "backbone"
    export(model.tower, folder, model.preprocessing)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return folder


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
    model = load_run(run)
    data = read_data(config)
    if data.classes != model.classes:
        raise VptError(f"{run} knows other classes than {data.name}: {', '.join(model.classes[:5])}, ….")
    values = _evaluate(model, data, split, config, progress=True)
    values.pop("confusion")
    return {"run": str(run), "split": split, "images": len(data.splits()[split]), **values}


def predict(run: str | Path, images: Sequence[str | Path]) -> Iterator[tuple[Path, Prediction]]:
    """Predictions for image files, and for every image below folders; all are decoded once before the first.

    Raises:
        VptError: the run is not there, or an image is not there or broken.
    """
    paths: list[Path] = []
    for image in map(Path, images):
        found = find_images(image) if image.is_dir() else [image]
        if not found or not found[0].exists():
            raise VptError(f"there is no image {'in ' if image.is_dir() else ''}{str(image)!r}: correct the path.")
        paths += found
    model = load_run(run)
    for path in paths:
        open_image(path)
    for start in range(0, len(paths), PREDICT_BATCH):
        some = paths[start : start + PREDICT_BATCH]
        yield from zip(some, model.predict(some), strict=True)


def load_run(run: str | Path) -> Prompted:
    """The best model of a run directory, or what a folder or the hub holds."""
    best = Path(run) / "best"
    return load(best if best.is_dir() else run)


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


def plain(config: Config) -> dict[str, Any]:
    """The config as values that YAML can hold."""
    values: dict[str, Any] = json.loads(config.model_dump_json())
    return values


def _evaluate(model: Prompted, data: DataSet, split: str, config: Config, progress: bool) -> dict[str, Any]:
    if split not in data.splits():
        raise VptError(f"{data.name} has no {split} split: there is {', '.join(data.splits())}.")
    options = {key: config.train[key] for key in ("batch_size", "precision", "workers") if key in config.train}
    groups = data.groups if split == "test" else None
    return evaluate(model, data.splits()[split], **options, progress=progress, groups=groups)


def _with_test(
    result: dict[str, Any], model: Prompted, data: DataSet, config: Config, run: RunDir, progress: bool
) -> dict[str, Any]:
    test = _evaluate(model, data, "test", config, progress)
    confusion = test.pop("confusion")
    run.save_best(model, _prefixed("val", result["val"]) | _prefixed("test", test))
    return result | {"test": test, "confusion": confusion}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key, but for those that no result depends on."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if prefix + key in NEUTRAL:
            continue
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {prefix + key: value}
    return flat


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "name"}


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(name if default is ... else f"{name}={default!r}" for name, (_, default) in options.items())


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{key}": value for key, value in values.items()}
