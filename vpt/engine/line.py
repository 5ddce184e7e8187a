"""Accuracy along the line from the frozen model to the tuned one (WiSE-FT, Wortsman et al., CVPR 2022)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vpt.engine.evaluate import evaluate
from vpt.engine.outputs import joined
from vpt.methods.base import Method
from vpt.model import Prompted
from vpt.report.intervals import wilson

POINTS = tuple(round(step / 10, 1) for step in range(11))
Kind = Literal["weights", "logits", "features"]


def kind_of(model: Prompted) -> Kind:
    """What is interpolated.

    "weights" where each tuned tensor of a model with class names as classifier is one of the backbone, and so has a
    frozen counterpart (section 3); "logits" where class names are the classifier and something is learned beside;
    "features", under the learned head, where the head is linear and has no frozen counterpart.
    """
    if model.head is not None:
        return "features"
    groups = model.parameter_groups()
    return "weights" if set(groups) == {"backbone"} and not list(model.method.parameters()) else "logits"


def line(
    model: Prompted, base: Prompted, data: Any, *, points: Sequence[float] = POINTS, **options: Any
) -> list[dict[str, Any]]:
    """Top-1 on labelled images from 0, the frozen model, to 1, the tuned one.

    Args:
        model: tuned.
        base: the model as it was before it was trained, of the same classes.
        data: as `evaluate` takes it.
        points: shares of the tuned model.
        options: of `evaluate`.

    Returns:
        A row a point: "share", "top1", and "low" and "high", its 95 % interval (Wilson).
    """
    kind = kind_of(model)
    if kind == "weights":
        return _by_weights(model, base, data, points, options)
    frozen = _frozen(base)
    if kind == "logits":
        (start, labels), (end, _) = (_outputs(each, data, options) for each in (frozen, model))
    else:
        start, labels, end = *_outputs(_under(frozen, model), data, options), _outputs(model, data, options)[0]
    # A linear head commutes with the line between features.
    return [_row(share, (1 - share) * start + share * end, labels) for share in points]


def _by_weights(
    model: Prompted, base: Prompted, data: Any, points: Sequence[float], options: dict[str, Any]
) -> list[dict[str, Any]]:
    tuned = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
    first = {name: base.state_dict()[name].to(tensor) for name, tensor in tuned.items()}
    rows = []
    try:
        for share in points:
            model.load_tuned_state(
                {
                    name: torch.lerp(first[name], tensor, share) if tensor.is_floating_point() else tensor
                    for name, tensor in tuned.items()
                }
            )
            rows.append(_row(share, *_outputs(model, data, options)))
    finally:
        model.load_tuned_state(tuned)
    return rows


def _outputs(model: Prompted, data: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    outputs: list[Any] = []
    evaluate(model, data, outputs=outputs, **options)
    return joined(outputs)


def _row(share: float, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    top1 = (logits.argmax(-1) == labels).double().mean().item()
    low, high = wilson(top1, len(labels))
    return {"share": share, "top1": top1, "low": low, "high": high}


def _frozen(base: Prompted) -> Prompted:
    """A view of a model that has learned nothing, without its method."""
    view = copy.copy(base)
    view._modules = {**base._modules, "method": Method()}
    return view.eval()


def _under(frozen: Prompted, model: Prompted) -> Prompted:
    """A view of a frozen model under the head of another."""
    view = copy.copy(frozen)
    view._modules = {**frozen._modules, "head": model.head}
    return view.eval()
