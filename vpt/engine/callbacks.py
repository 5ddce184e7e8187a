"""What others have `fit` call as it goes: after a step, after an epoch, at the beginning and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from vpt.model import Prompted


class Training:
    """How far a run is, as callbacks see it.

    Attributes:
        model: what is trained, in training mode in `on_step` and in evaluation mode with nothing averaged elsewhere.
        epochs: that the run has.
        epoch: the present one, from 1; 0 before the first.
        step: steps of the optimizer so far.
        loss: of the last batch, a scalar on the device of the model, each time a tensor of its own; to read its value
            waits for the device.
        row: figures of the last epoch, as `FitResult.history` has them, with "val/…" where it was evaluated.
        main: whether this is the main process, which alone should write files.
    """

    def __init__(self, model: Prompted, accelerator: Accelerator, *, epochs: int) -> None:
        self.model = model
        self.epochs = epochs
        self.epoch = 0
        self.step = 0
        self._loss: Tensor | None = None
        self.row: Mapping[str, Any] = {}
        self.main: bool = accelerator.is_main_process
        self._accelerator = accelerator
        self._stops = False

    @property
    def loss(self) -> Tensor | None:
        """A captured step leaves it where the next one does: whoever keeps it is to have a copy."""
        return None if self._loss is None else self._loss.clone()

    def stop(self) -> None:
        """End the run here; of several processes any may say so.

        An epoch that is stopped amid its steps is evaluated and kept as it is, and counts as one.
        """
        self._stops = True
        if self._accelerator.num_processes > 1:
            self._accelerator.set_trigger()

    def stopped(self) -> bool:
        """Whether any process has said `stop`; all of them have to ask together."""
        if self._accelerator.num_processes > 1:
            return bool(self._accelerator.check_trigger())
        return self._stops


class Callback:
    """Events of `fit`. A subclass overrides those that it wants; an error that one raises ends the run.

    What has been saved of the run by then stays, and it can be gone on with.
    """

    def on_begin(self, training: Training) -> None:
        """Before the first step, with the epochs of a resumed run already counted."""

    def on_step(self, training: Training) -> None:
        """After a step of the optimizer, with `training.step` and `training.loss`."""

    def on_epoch(self, training: Training) -> None:
        """After an epoch was evaluated and kept, with `training.row`."""

    def on_end(self, training: Training) -> None:
        """After the last epoch, with the model as `fit` leaves it; not called where an error ended the run."""


class Callbacks:
    """Several callbacks, each called in its turn.

    Args:
        callbacks: to be called.
        training: what they are given.

    Attributes:
        ended: whether one of them, in any process, has ended the run.
        look_at_steps: whether one of them does anything after a step.

    Raises:
        TypeError: they are no list, or one is no `Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback], training: Training) -> None:
        if not isinstance(callbacks, Sequence) or isinstance(callbacks, str | bytes):
            raise TypeError(f"callbacks is a {type(callbacks).__name__}: give a list of vpt.Callback.")
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks=[…] holds a {type(callback).__name__}, and should hold a vpt.Callback.")
        self.callbacks = tuple(callbacks)
        self.training = training
        self.ended = False
        steps = [getattr(callback.on_step, "__func__", None) for callback in callbacks]
        self.look_at_steps = any(function is not Callback.on_step for function in steps)

    def begin(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Before the first step, with the rows of epochs so far."""
        if history:
            self.training.row = dict(history[-1])
            self.training.epoch, self.training.step = history[-1]["epoch"], history[-1]["step"]
        for callback in self.callbacks:
            callback.on_begin(self.training)

    def step(self, epoch: int, step: int, loss: Tensor) -> bool:
        """After a step; whether the run is to end."""
        if not self.callbacks:
            return False
        self.training.epoch, self.training.step, self.training._loss = epoch, step, loss
        for callback in self.callbacks:
            callback.on_step(self.training)
        self.ended = self.training.stopped()
        return self.ended

    def epoch(self, row: Mapping[str, Any]) -> bool:
        """After an epoch; whether the run is to end."""
        if not self.callbacks:
            return False
        self.training.row = dict(row)
        self.training.epoch, self.training.step = row["epoch"], row.get("step", 0)
        for callback in self.callbacks:
            callback.on_epoch(self.training)
        self.ended = self.ended or self.training.stopped()
        return self.ended

    def end(self) -> None:
        """After the last epoch."""
        for callback in self.callbacks:
            callback.on_end(self.training)
