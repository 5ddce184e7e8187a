"""Options of an experiment that nothing reads, so that nobody believes that they did something."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from vpt.config import Config
from vpt.data.base import DataSet
from vpt.data.pairs import PairSet
from vpt.engine.optim import takes_momentum
from vpt.model import Prompted
from vpt.report.notes import tell

# What measuring reads too; all other options of `fit` are of training.
MEASURING = {"batch_size", "precision", "compile", "workers"}


def tell_unused(config: Config, model: Prompted, data: DataSet | PairSet) -> None:
    """Say which options were set to no effect, each set of them once."""
    for reason, options in unused(config, model, data):
        _tell_once(f"{', '.join(options)} {'are' if len(options) > 1 else 'is'} not used: {reason}.")
    still = sorted(f"train.{rate}" for rate in ("lr", "base_lr") if config.train.get(rate) == 0)
    if still and model.parameter_groups():
        _tell_once(f"{', '.join(still)} is 0, by which nothing is learned.")


def unused(config: Config, model: Prompted, data: DataSet | PairSet) -> Iterator[tuple[str, list[str]]]:
    """Reasons, and the options that are without effect for each.

    Args:
        config: a checked one.
        model: made of it.
        data: that it is trained on.
    """
    own = {name for name, field in type(config).model_fields.items() if getattr(config, name) != field.default}
    if model.text is None:
        yield from _of("the classifier is a linear head", own & {"templates", "text_chunk", "learn_scale"})
    else:
        yield from _of("there is no linear head", own & {"head_init"})
        view = model.method.frozen_view
        compared = view is not None and view.frozen_templates is None
        if isinstance(data, PairSet) or (model.method.template is not None and not compared):
            reason = "captions" if isinstance(data, PairSet) else f"{model.method.name} learned words"
            yield from _of(f"{reason} stand in the place of templates", own & {"templates"})
    if config.task and isinstance(data, DataSet):
        yield "the images have labels", ["task"]
    train = set(config.train)
    if not model.parameter_groups() and not model.method.classifier.needs_features:
        yield from _train(f"{model.method.name} trains nothing", train - MEASURING)
        return
    if not takes_momentum(config.train.get("optimizer", "sgd")):
        yield from _train(f"{config.train['optimizer']} has none", train & {"momentum"})
    if data.val is None:
        yield from _train("there are no validation images", train & {"eval_every", "patience"})
    if "head" not in model.parameter_groups():
        yield from _train("there is no head to train", train & {"head_lr"})
    if isinstance(data, PairSet):
        yield from _train("a contrastive loss has none", train & {"label_smoothing"})


def _train(reason: str, options: set[str]) -> Iterator[tuple[str, list[str]]]:
    return _of(reason, {f"train.{option}" for option in options})


def _of(reason: str, options: set[str]) -> Iterator[tuple[str, list[str]]]:
    if options:
        yield reason, sorted(options)


@cache
def _tell_once(sentence: str) -> None:
    """Tables train many runs with the same options."""
    tell(sentence)
