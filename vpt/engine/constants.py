"""What a captured step takes for constant, though a callback or the method itself may change it between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from vpt.capture import HOOKS
from vpt.model import Prompted

PLAIN = (bool, int, float, str, type(None))
# It hangs on the batch, by whose sizes steps are told apart.
OF_BATCHES = frozenset({"share"})


class Facts(NamedTuple):
    """What there is at a time: a graph that was captured at another computes something else, where they differ.

    Attributes:
        places: where tensors lie.
        trained: which of what is trained still is.
        classes: their names, and the templates.
        plain: attributes of the modules of method and head and of the task, one dictionary each.
        hooks: how many there are on modules.
    """

    places: list[int]
    trained: list[bool]
    classes: tuple[tuple[str, ...], ...]
    plain: list[dict[str, Any]]
    hooks: int


class Constants:
    """Of the steps of a run.

    Args:
        model: what is trained.
        task: its loss.
        tuned: the parameters that the optimizer has.
    """

    def __init__(self, model: Prompted, task: Any, tuned: Sequence[nn.Parameter]) -> None:
        self.model = model
        self.tuned = list(tuned)
        head = [] if model.head is None else model.head.modules()
        self.parts = [*model.method.modules(), *head, task]
        # Encoders are moved as a whole.
        self.frozen: list[Tensor] = [next(model.tower.parameters())]
        if model.text is not None:
            self.frozen.append(model.text.logit_scale)
        self.hooks = [getattr(module, hooks) for module in model.modules() for hooks in HOOKS]

    def now(self) -> Facts:
        """What there is."""
        method = self.model.method
        tensors = (*method.parameters(), *method.buffers(), *self.tuned, *self.frozen)
        return Facts(
            places=[tensor.data_ptr() for tensor in tensors],
            trained=[parameter.requires_grad for parameter in self.tuned],
            classes=(self.model.classes, self.model.templates),
            plain=[_plain(part) for part in self.parts],
            hooks=sum(map(len, self.hooks)),
        )

    def put_back(self, facts: Facts) -> None:
        """Plain attributes as they were."""
        for part, plain in zip(self.parts, facts.plain, strict=True):
            vars(part).update(plain)


def _plain(part: Any) -> dict[str, Any]:
    return {name: of for name, of in vars(part).items() if isinstance(of, PLAIN) and name not in OF_BATCHES}
