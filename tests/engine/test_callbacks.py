"""What `fit` calls as it goes, and how it is ended from there."""

from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.engine.test_fit import QUIET, model, pairs
from vpt import Callback, Training, VptError
from vpt.engine.callbacks import Callbacks

FIT: dict[str, Any] = {"batch_size": 6, **QUIET}


class Seen(Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_begin(self, training: Training) -> None:
        self.events.append(("begin", training.epoch))

    def on_step(self, training: Training) -> None:
        assert training.model.training
        assert training.loss.item() > 0
        self.events.append((training.epoch, training.step))

    def on_epoch(self, training: Training) -> None:
        assert not training.model.training
        self.events.append(training.row["epoch"])

    def on_end(self, training: Training) -> None:
        self.events.append(("end", training.model.training))


class Stops(Callback):
    def __init__(self, *, epoch: int = 0, step: int = 0) -> None:
        self.epoch, self.step = epoch, step

    def on_step(self, training: Training) -> None:
        if training.step == self.step:
            training.stop()

    def on_epoch(self, training: Training) -> None:
        if training.epoch == self.epoch:
            training.stop()


class Breaks(Callback):
    def on_epoch(self, training: Training) -> None:
        raise LookupError("enough")


def test_events_come_in_order() -> None:
    seen = Seen()
    vpt.fit(model(), pairs(), epochs=2, callbacks=[seen], **FIT)
    assert seen.events == [("begin", 0), (1, 1), (1, 2), 1, (2, 3), (2, 4), 2, ("end", False)]


def test_a_step_of_several_batches_is_one_event() -> None:
    seen = Seen()
    vpt.fit(model(), pairs(), epochs=1, callbacks=[seen], accumulate=2, **FIT)
    assert seen.events == [("begin", 0), (1, 1), 1, ("end", False)]


def test_a_run_ends_after_the_epoch_that_is_said_which_is_evaluated_also_where_it_was_not_due() -> None:
    result = vpt.fit(model(), pairs(), pairs(), epochs=9, eval_every=5, callbacks=[Stops(epoch=2)], **FIT)
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.best_epoch == 2
    assert "val/top1" in result.metrics
    assert result.stopped_early


def test_a_run_ends_amid_an_epoch_which_is_evaluated_and_kept_and_goes_on_with_the_next(tmp_path: Path) -> None:
    how = {"epochs": 3, "run_dir": tmp_path / "run", **FIT}
    result = vpt.fit(model(), pairs(), pairs(), callbacks=[Stops(step=3)], **how)
    assert [(row["epoch"], row["step"]) for row in result.history] == [(1, 2), (2, 3)]
    assert "val/top1" in result.history[1]
    seen = Seen()
    result = vpt.fit(model(), pairs(), pairs(), callbacks=[seen], resume=True, **how)
    assert seen.events == [("begin", 2), (3, 5), (3, 6), 3, ("end", False)]
    assert not result.stopped_early


def test_an_error_of_a_callback_ends_the_run_and_what_was_saved_stays(tmp_path: Path) -> None:
    how = {"epochs": 2, "run_dir": tmp_path / "run", **FIT}
    with pytest.raises(LookupError, match="enough"):
        vpt.fit(model(), pairs(), callbacks=[Breaks()], **how)
    assert len(vpt.fit(model(), pairs(), resume=True, **how).history) == 2


def test_a_method_that_trains_nothing_has_its_events_too() -> None:
    seen = Seen()
    linear = model("linear")
    linear.requires_grad_(False)
    vpt.fit(linear, pairs(), pairs(), callbacks=[seen], **FIT)
    assert seen.events == [("begin", 0), 0, ("end", False)]


def test_what_is_no_callback_is_named() -> None:
    with pytest.raises(TypeError, match=r"callbacks=\[…\] holds a function, and should hold a vpt\.Callback"):
        vpt.fit(model(), pairs(), callbacks=[lambda training: None], **FIT)
    with pytest.raises(VptError, match=r"train\.callbacks"):
        _check({"callbacks": []})


@pytest.mark.parametrize("callbacks", [b"x", {"a": 1}, "abc", vpt.Callback()])
def test_callbacks_are_a_list(callbacks: object) -> None:
    with pytest.raises(TypeError, match=f"callbacks is a {type(callbacks).__name__}: give a list"):
        vpt.fit(model(), pairs(), callbacks=callbacks, **FIT)


def _check(train: dict[str, Any]) -> None:
    from vpt import build, config

    build.check(config.parse({"backbone": "vpt/vit-nano", "method": "linear", "data": "digits", "train": train}))


def test_whoever_does_something_after_a_step_is_known() -> None:
    """What a captured step takes for constant is looked at again after each step only then."""

    def known(*callbacks: Callback) -> bool:
        training: Any = None
        return Callbacks(callbacks, training).look_at_steps

    given = Callback()
    given.on_step = lambda training: None
    assert not known()
    assert not known(Breaks(), Callback())
    assert known(Breaks(), Stops(step=1))
    assert known(given)
