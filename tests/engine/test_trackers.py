"""The figures of a run in TensorBoard and others, through Accelerate."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class

import vpt
from tests.engine.test_callbacks import FIT, Breaks, Stops
from tests.engine.test_fit import model, pairs
from vpt import VptError


class Told(GeneralTracker):
    """A tracker of one's own."""

    name = "told"
    requires_logging_directory = False
    main_process_only = True
    all: ClassVar[list["Told"]] = []

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options = project, options
        self.config: dict[str, Any] = {}
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.finished = False
        Told.all.append(self)

    @property
    def tracker(self) -> "Told":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        self.rows.append((step or 0, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def registered() -> Iterator[list[Told]]:
    register_tracker_class(Told)
    Told.all.clear()
    yield Told.all
    del LOGGER_TYPE_TO_CLASS["told"]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder))
    log.Reload()
    return [(event.step, event.value) for event in log.Scalars(name)]


def test_tensorboard_has_each_epoch_once_also_of_a_run_that_was_gone_on_with(tmp_path: Path) -> None:
    how = {"epochs": 3, "run_dir": tmp_path / "run", **FIT}
    vpt.fit(model(), pairs(), callbacks=[Stops(epoch=2)], **how)
    result = vpt.fit(model(), pairs(), resume=True, **how)
    expected = [(row["epoch"], pytest.approx(row["train/loss"])) for row in result.history]
    assert scalars(tmp_path / "run" / "tensorboard", "train/loss") == expected
    assert not [thread for thread in threading.enumerate() if "AsyncWriter" in type(thread).__name__]


def test_a_tracker_is_told_what_the_run_is_and_each_epoch_and_is_closed(registered: list[Told]) -> None:
    chosen = [{"name": "told", "project": "birds", "tags": ["a"]}]
    result = vpt.fit(model(), pairs(), epochs=2, trackers=chosen, **FIT)
    (tracker,) = registered
    assert (tracker.project, tracker.options) == ("birds", {"tags": ["a"]})
    assert tracker.config["method.name"] == "vpt-deep"
    assert tracker.config["train.batch_size"] == 6
    assert [step for step, _ in tracker.rows] == [1, 2]
    assert tracker.rows[1][1]["train/loss"] == result.history[1]["train/loss"]
    assert tracker.finished


def test_a_session_that_goes_on_tells_all_epochs_and_one_that_fails_is_closed(
    registered: list[Told], tmp_path: Path
) -> None:
    how = {"epochs": 3, "run_dir": tmp_path / "run", "trackers": ["told"], **FIT}
    vpt.fit(model(), pairs(), callbacks=[Stops(epoch=2)], **how)
    vpt.fit(model(), pairs(), resume=True, **how)
    with pytest.raises(LookupError):
        vpt.fit(model(), pairs(), epochs=2, trackers=["told"], callbacks=[Breaks()], **FIT)
    assert [[step for step, _ in tracker.rows] for tracker in registered] == [[1, 2], [1, 2, 3], [1]]
    assert all(tracker.finished for tracker in registered)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_one_in_hand_is_taken_as_it_is() -> None:
    mine = Told("mine")
    vpt.fit(model(), pairs(), epochs=1, trackers=[mine], **FIT)
    assert [step for step, _ in mine.rows] == [1]


def test_a_method_that_trains_nothing_is_told_too() -> None:
    mine = Told("mine")
    linear = model("linear")
    linear.requires_grad_(False)
    vpt.fit(linear, pairs(), pairs(), trackers=[mine], **FIT)
    ((step, row),) = mine.rows
    assert step == 0
    assert "val/top1" in row


@pytest.mark.parametrize(
    ("trackers", "sentence"),
    [
        (["tensorbord"], "'tensorbord' is none that Accelerate has: did you mean 'tensorboard'"),
        (["comet_ml"], "comet_ml is not installed: pip install comet-ml"),
        (["tensorboard"], "tensorboard writes into the folder of a run: give run_dir"),
        ([{"project": "birds"}], "needs a name"),
        ([1], "trackers has 1, which needs a name"),
        (b"x", "is no list: say trackers="),
        ("wandb", r"is no list: say trackers=\['wandb'\]"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(trackers: Any, sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.fit(model(), pairs(), trackers=trackers, **FIT)


def test_a_config_names_them(registered: list[Told], tmp_path: Path) -> None:
    from vpt import config, experiment

    path = tmp_path / "digits.yaml"
    path.write_text(
        "backbone: vpt/vit-nano\nmethod: linear\ndata: {name: digits}\n"
        "train: {epochs: 1, trackers: [{name: told, project: digits}]}\n",
        encoding="utf-8",
    )
    experiment.train(config.read(path, [f"out={tmp_path / 'run'}"]), progress=False, test=False)
    (tracker,) = registered
    assert tracker.project == "digits"
    assert tracker.config["data.name"] == "digits"
    # What looks on changes no result: the run goes on, and is read, without it.
    experiment.train(config.read(path, [f"out={tmp_path / 'run'}", "train.trackers=[]"]), resume=True, progress=False)
