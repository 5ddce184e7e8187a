"""What a captured step takes for constant, though a callback or the method itself may change it between steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from torch import Tensor, nn

from vpt.model import Prompted

PLAIN = (bool, int, float, str, type(None))
# It hangs on the batch, by whose sizes steps are told apart.
OF_BATCHES = frozenset({"share"})


def constants(model: Prompted, task: Any, tuned: Sequence[nn.Parameter]) -> tuple[Any, ...]:
    """Where tensors lie, what is trained, class names, and plain attributes of the method's modules and of the task.

    A graph that was captured while these were others computes something else than the step as it is.
    """
    method = model.method
    tensors = chain(method.parameters(), method.buffers(), tuned, _frozen(model))
    plain = [_plain(module) for module in (*method.modules(), task)]
    trained = [parameter.requires_grad for parameter in tuned]
    return [tensor.data_ptr() for tensor in tensors], trained, model.classes, model.templates, plain


def _frozen(model: Prompted) -> Iterator[Tensor]:
    """One tensor of each encoder, which are moved as a whole."""
    yield next(model.tower.parameters())
    if model.text is not None:
        yield model.text.logit_scale


def _plain(module: Any) -> list[Any]:
    return [(name, of) for name, of in vars(module).items() if isinstance(of, PLAIN) and name not in OF_BATCHES]
