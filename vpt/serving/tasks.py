"""What was learned for one task, put on a backbone that many share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpt import saving
from vpt.assemble import restored
from vpt.errors import VptError
from vpt.facts import Facts
from vpt.model import Prompted
from vpt.paths import model_folder
from vpt.preprocessing import ImageTransform, Preprocessing
from vpt.serving.plan import Plan, is_frozen, plan_of, tensors_of
from vpt.towers.backbone import Backbone, Pair

REMEDY = "a bank is of one backbone, so make another for it"


@dataclass(frozen=True, eq=False)
class Task:
    """A saved model on the shared backbone.

    Attributes:
        name: in the bank.
        source: where it was saved.
        model: of encoders that the bank shares.
        plan: what it adds in the one pass; None where its images go through the encoder by themselves.
        frozen: its image features are those of the backbone.
    """

    name: str
    source: str
    model: Prompted
    plan: Plan | None
    frozen: bool

    @cached_property
    def transform(self) -> ImageTransform:
        """From an RGB image to a tensor (3, H, W)."""
        return self.preprocessing.transform()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self.model.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How its images become tensors."""
        return self.model.preprocessing

    def num_bytes(self) -> int:
        """Of what is the task's own: what was learned, and keys and values of its prompts."""
        own = list(self.model.tuned_state().values())
        own += [tensor for step in self.plan or () for tensor in tensors_of(step.attended)]
        return sum(tensor.numel() * tensor.element_size() for tensor in own)


class Fingerprints:
    """Fingerprints of a backbone, each of which is computed once: there is one for each set of frozen tensors."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, int], ...], str] = {}

    def __call__(self, tensors: Mapping[str, Tensor]) -> str:
        """As `saving.fingerprint`; tensors are known by their name and place in memory."""
        key = tuple(sorted((name, tensor.data_ptr()) for name, tensor in tensors.items()))
        if key not in self._known:
            self._known[key] = saving.fingerprint(tensors)
        return self._known[key]


@torch.no_grad()
def read_task(name: str, source: str | Path, backbone: Backbone, fingerprint: Fingerprints) -> Task:
    """A saved model as a task.

    Args:
        name: in the bank.
        source: a run, a saved model, or a repository of the hub.
        backbone: that all tasks share; it is left as it is.
        fingerprint: of its weights.

    Raises:
        VptError: there is no such model, it was trained with another backbone, or it has no classes.
    """
    tensors, facts = saving.read(model_folder(source))
    _check(facts, str(source))
    own = {name for name in tensors if name.startswith(("tower.", "text.tower."))}
    model = restored(
        _apart(backbone, own) if own else backbone, tensors, facts, str(source), fingerprint=fingerprint, remedy=REMEDY
    )
    if backbone.tower.dtype == torch.float64:
        model.double()
    model.to(backbone.tower.kernel.device)
    plan = None if own else plan_of(model)
    if plan is None:
        model.compile_prompts()
    if model.head is None and not model.method.conditional:
        # Class names are encoded when a task is added, and not when it is first asked.
        model.class_features()
    return Task(name, str(source), model, plan, plan is not None and is_frozen(plan))


def _check(facts: Facts, source: str) -> None:
    if not facts.classes:
        raise VptError(f"{source} has no classes to choose from: name some (vpt classes), and add what is saved then.")


def _apart(backbone: Backbone, own: set[str]) -> Backbone:
    """The backbone with tensors of its own in the place of those that a task tunes; all others are shared."""

    def copied(module: Any, prefix: str) -> Any:
        tensors = [*module.named_parameters(), *module.named_buffers()]
        shared = {id(tensor): tensor for name, tensor in tensors if f"{prefix}.{name}" not in own}
        return copy.deepcopy(module, shared)

    pair = backbone.pair
    if isinstance(pair, Pair):
        pair = replace(pair, text=copied(pair.text, "text.tower"))
    return replace(backbone, tower=copied(backbone.tower, "tower"), pair=pair)
