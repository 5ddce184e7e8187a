"""From an experiment's config to its data and its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vpt import config as configs
from vpt import data as datasets
from vpt.assemble import create, load
from vpt.config import Config, plain
from vpt.data.base import DataSet, Files
from vpt.data.pairs import PairSet
from vpt.engine.fit import fit
from vpt.engine.folder import CONFIG
from vpt.engine.settings import Settings
from vpt.errors import VptError
from vpt.methods import find
from vpt.model import Prompted
from vpt.options import checked, options_of
from vpt.paths import model_folder
from vpt.report.notes import tell
from vpt.tasks.image_text import ImageText
from vpt.text import DEFAULT_TEMPLATES, ENSEMBLES, ensemble
from vpt.towers import load as towers
from vpt.towers.located import here, portable
from vpt.trust import from_elsewhere

OF_ANY = ("dtype", "pretrained", "weights", "image_size", "preprocessing")
RESERVED = ("callbacks", "run_dir", "resume", "overwrite", "progress", "seed", "task")


def check(config: Config) -> Config:
    """`config` with every option checked and typed, before data are read or weights are loaded.

    Raises:
        VptError: an unknown name or option, or a value of the wrong type.
    """
    method, data, backbone = (_options(section) for section in (config.method, config.data, config.backbone))
    if config.train.get("steps") is not None and "epochs" in config.train:
        raise VptError("train.steps stands in the place of train.epochs: leave epochs out, or set train.steps=null.")
    train = checked(fit, config.train, "train", given=RESERVED)
    Settings.of({name: default for name, (_, default) in options_of(fit).items()} | train | {"seed": config.seed})
    # Of any library, whose own `load` need not name them.
    shared = {key: backbone.pop(key) for key in OF_ANY if key in backbone and key in options_of(create)}
    # A run keeps its weights by their digest.
    kept = {"weights": portable(shared.pop("weights"))} if isinstance(shared.get("weights"), Mapping) else {}
    shared = checked(create, shared, "backbone")
    held = {"dtype": shared.pop("dtype")} if "dtype" in shared else {}
    if data.get("unlabelled") is not None and not find(config.method["name"]).transductive:
        raise VptError(
            f"data.unlabelled={data['unlabelled']}: {config.method['name']} learns from labels; leave it out, or take "
            "a method that looks at none, such as promptkd."
        )
    return config.model_copy(
        update={
            "backbone": {"name": config.backbone["name"]}
            | towers.checked_options(config.backbone["name"], backbone | shared)
            | held
            | kept,
            "method": {"name": config.method["name"]} | checked(find(config.method["name"]), method, "method"),
            "data": {"name": config.data["name"]} | datasets.checked_options(config.data["name"], data),
            "train": train,
            "task": checked(ImageText, config.task, "task"),
        }
    )


def as_kept(config: Config) -> dict[str, Any]:
    """A checked config as a run keeps it: plain values, with a file of weights by its digest and not by its place.

    Raises:
        VptError: the file is not there.
    """
    values = plain(config)
    weights = values["backbone"].get("weights")
    return values if weights is None else values | {"backbone": values["backbone"] | {"weights": portable(weights)}}


def config_of(run: Path, overrides: Sequence[str] = ()) -> Config:
    """The checked config of a run, which may be someone else's: no module is imported for it.

    Args:
        run: its directory.
        overrides: "key.path=value" of the user's own.
    """
    with from_elsewhere():
        return check(configs.read(run / CONFIG, overrides))


def read_data(config: Config) -> DataSet | PairSet:
    """The data set of a checked config; the experiment's seed is that of its shots, if none is given."""
    options = {"seed": config.seed} | _options(config.data)
    return datasets.load(config.data["name"], **options)


def list_data(config: Config) -> DataSet | PairSet:
    """As `read_data`, to see which images there are; those are not decoded."""
    return datasets.load(config.data["name"], **({"seed": config.seed} | _options(undecoded(config.data))))


def undecoded(section: Mapping[str, Any]) -> dict[str, Any]:
    """A data section that decodes no image, unless broken ones are to be left out."""
    return {**section, "cache": "none"} | ({} if section.get("broken") == "skip" else {"check": False})


def build_model(config: Config, data: DataSet | PairSet) -> Prompted:
    """The model of a checked config, with a classifier for the classes of `data`, or with a text side for captions."""
    torch.manual_seed(config.seed)
    known = {"pretrained", "weights", "image_size", "dtype"}
    backbone = _options(config.backbone)
    if "weights" in backbone:
        backbone["weights"] = here(backbone["weights"])
    paired = isinstance(data, PairSet)
    if paired and (config.head == "linear" or "text" not in find(config.method["name"]).heads):
        what = "head=linear" if config.head == "linear" else f"method={config.method['name']}"
        raise VptError(f"{what} classifies by a linear head, and {data.name} has captions: name another one.")
    head = "text" if paired else find(config.method["name"]).head if config.head is None else config.head
    model = create(
        config.backbone["name"],
        config.method["name"],
        classes=() if isinstance(data, PairSet) else data.classes,
        head=head,
        head_init=config.head_init if head == "linear" else None,
        templates=templates_for(config.templates, data),
        learn_scale=config.learn_scale,
        **{key: value for key, value in backbone.items() if key in known},
        backbone_options={key: value for key, value in backbone.items() if key not in known},
        **_options(config.method),
    )
    if model.text is not None:
        model.text.chunk = config.text_chunk
        # A tokenizer is loaded when it is first needed; one that cannot be had is told before a run is begun.
        model.tokenize(["a"])
    if config.start is not None:
        _begin_with(model, config.start)
    if isinstance(data, PairSet):
        ImageText(**config.task).check(model)
        if model.method.objectives:
            name = model.method.name
            tell(f"the loss of {name} is one of classes; captions train its prompts without it.")
        _tell_long(model, data)
    return model


def check_new_classes(config: Config) -> None:
    """Nothing, if a model of a checked config can be given other classes than those it is trained with.

    Raises:
        VptError: it cannot, or the model cannot be made.
    """
    names = DataSet("names", ("one", "another"), Files([], []))
    build_model(config.model_copy(update={"start": None}), names).set_classes(names.classes)


def load_run(run: str | Path, *, weights: str | None = None) -> Prompted:
    """The best model of a run directory, or what a folder or the hub holds; `weights` is a file of its backbone."""
    return load(model_folder(run), weights=weights)


def templates_for(chosen: Sequence[str] | str, data: DataSet | PairSet) -> Sequence[str]:
    """The sentences that a config means by its `templates`.

    Raises:
        VptError: there are none by this name.
    """
    if not isinstance(chosen, str):
        return chosen
    if chosen == "data":
        return data.templates if isinstance(data, DataSet) else DEFAULT_TEMPLATES
    if chosen not in ENSEMBLES:
        raise VptError(f"templates={chosen!r}: give a list of sentences, or data, {' or '.join(ENSEMBLES)}.")
    return ensemble(chosen)


def _begin_with(model: Prompted, start: str) -> None:
    """Give a new model what a finished run has learned.

    Raises:
        VptError: it was of another method, backbone or, where the head knows them, other classes.
    """
    former = load_run(start)
    mine, theirs = (
        {"method": of.method.name, "backbone": of.recipe["backbone"]["name"]}
        | ({} if of.head is None else {"classes": of.classes})
        for of in (model, former)
    )
    differs = [key for key in mine if mine[key] != theirs.get(key)]
    if differs:
        raise VptError(
            f"training cannot begin with {start}: its {differs[0]} is another ({theirs.get(differs[0])}); leave start "
            "out, or name a run of the same."
        )
    model.load_tuned_state(former.tuned_state())


def _tell_long(model: Prompted, data: PairSet) -> None:
    """Say how many captions are longer than the text side takes."""
    captions = [caption for pairs in data.splits().values() for of_image in pairs.captions for caption in of_image]
    assert model.text is not None
    count = model.text.tower.too_long(captions, model.method.num_context)
    if count:
        limit = model.text.tower.context_length - model.method.num_context
        tell(f"{count} of {len(captions)} captions have more than {limit} tokens and are cut.")


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "name"}
