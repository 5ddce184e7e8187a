"""A search by Optuna: on validation images alone, gone on with where it was interrupted, whatever dies in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.finished import finished
from vpt import VptError, config, experiment
from vpt.engine.callbacks import Training
from vpt.search import search

BASE: dict[str, Any] = {"backbone": "vpt/vit-nano", "method": "linear", "data": "digits"}
GRID = {"train.lr": [1.0, 0.1, 0.01], "train.weight_decay": [0.0, 0.1]}
FREE = {"train.lr": {"low": 0.001, "high": 10, "log": True}, "train.batch_size": {"low": 8, "high": 32, "step": 8}}


class Runs:
    """In place of training: how good a rate is on validation images, and what was run."""

    def __init__(self) -> None:
        self.ran: list[dict[str, Any]] = []
        self.dies: list[float] = []
        self.epochs = 1

    def __call__(self, run: config.Config, *, test: bool, callbacks: Any = (), **_: Any) -> tuple[None, Any]:
        assert not test
        self.ran.append({**run.train, "seed": run.seed, "out": str(run.out)})
        if run.train["lr"] in self.dies:
            raise RuntimeError("out of memory")
        top1 = 1 - abs(run.train["lr"] - 0.1) / 10 - run.train.get("weight_decay", 0.0)
        for epoch in range(1, self.epochs + 1):
            training = object.__new__(Training)
            training.epoch, training.epochs, training.row = epoch, self.epochs, {"val/top1": top1}
            for callback in callbacks:
                callback.on_epoch(training)
        assert run.out is not None
        run.out.mkdir(parents=True)
        result = finished(val={"top1": top1})
        (run.out / "result.json").write_text(json.dumps(result))
        return None, result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(experiment, "train", found)
    return found


def sought(out: Path, *, trials: int | None = None, **values: Any) -> dict[str, Any]:
    return search(config.parse(BASE | {"out": out} | values), trials=trials, progress=False)


def test_all_of_a_grid_is_run_once_with_each_seed_and_the_best_becomes_a_config(tmp_path: Path, runs: Runs) -> None:
    found = sought(tmp_path, select=GRID, select_seeds=[1, 2])
    assert len(runs.ran) == 12
    assert found["chosen"] == {"train.lr": 0.1, "train.weight_decay": 0.0}
    assert found["value"] == 1.0
    best = config.read(tmp_path / "best.yaml")
    assert (best.train["lr"], best.train["weight_decay"], best.out) == (0.1, 0.0, tmp_path / "best")
    assert json.loads((tmp_path / "sweep.json").read_text()) == found
    assert (tmp_path / "table.md").read_text().count("complete") == 6
    assert sought(tmp_path, select=GRID, select_seeds=[1, 2]) == found
    assert len(runs.ran) == 12


def test_a_row_of_a_table_is_searched_with_what_it_changes(tmp_path: Path, runs: Runs) -> None:
    rows = {"a": {"train.epochs": 3, "select": {"train.lr": [0.1, 0.2]}}, "b": {}}
    with pytest.raises(VptError, match=r"several rows \(a, b\): name one"):
        sought(tmp_path / "none", compare=rows, select=GRID)
    search(config.parse(BASE | {"out": tmp_path, "compare": rows}), row="a", trials=99, progress=False)
    assert [(run["lr"], run["epochs"]) for run in runs.ran] == [(0.1, 3), (0.2, 3)]


def test_a_free_search_draws_within_its_ranges_and_goes_on_to_so_many_trials(tmp_path: Path, runs: Runs) -> None:
    sought(tmp_path, search=FREE, trials=4)
    found = sought(tmp_path, search=FREE, trials=9)
    assert len(runs.ran) == len(found["trials"]) == 9
    assert all(0.001 <= run["lr"] <= 10 and run["batch_size"] in (8, 16, 24, 32) for run in runs.ran)
    assert found["value"] == max(trial["value"] for trial in found["trials"])


def test_a_trial_that_is_worse_than_others_is_ended(tmp_path: Path, runs: Runs) -> None:
    runs.epochs = 3
    found = sought(tmp_path, search=FREE, trials=15)
    pruned = [trial for trial in found["trials"] if trial["state"] == "pruned"]
    assert pruned
    assert all(not (tmp_path / trial["folder"] / "seed-0").exists() for trial in pruned)
    assert {trial["state"] for trial in found["trials"]} == {"pruned", "complete"}


def test_one_that_dies_does_not_end_it_and_is_told(tmp_path: Path, runs: Runs) -> None:
    runs.dies = [0.1]
    found = sought(tmp_path, select=GRID)
    errors = [trial["error"] for trial in found["trials"] if trial["state"] == "fail"]
    assert errors == ["out of memory"] * 2
    assert found["chosen"] == {"train.lr": 0.01, "train.weight_decay": 0.0}


def test_where_all_die_the_first_error_is_told(tmp_path: Path, runs: Runs) -> None:
    runs.dies = GRID["train.lr"]
    with pytest.raises(VptError, match="no trial came to its end: out of memory"):
        sought(tmp_path, select=GRID)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "there is nothing to search: give the config search:"),
        ({"search": {"train.lr": {"low": 1, "high": 0.1}}}, r"search\.train\.lr will not do \(low is not below high\)"),
        ({"search": {"train.lr": {"lo": 1, "high": 0.1}}}, r"search\.train\.lr\.low will not do \(field required\)"),
        ({"search": {"train.rate": [1, 2]}}, "train.rate is no option of train"),
        ({"search": {"train.lr": {"low": -1.0, "high": 0.1}}}, "lr=-1.0 is below 0"),
        ({"search": {"method.tokens": [1, 2]}}, "method.tokens is no option"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_is_run(
    values: dict[str, Any], sentence: str, tmp_path: Path, runs: Runs
) -> None:
    with pytest.raises(VptError, match=sentence):
        sought(tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()


def test_another_search_in_the_folder_is_refused(tmp_path: Path, runs: Runs) -> None:
    sought(tmp_path, select={"train.lr": [1.0, 0.1]})
    with pytest.raises(VptError, match="was begun otherwise"):
        sought(tmp_path, select={"train.lr": [1.0, 0.2]})
    with pytest.raises(VptError, match=r"was begun otherwise \(train\.epochs was not set and is 3\)"):
        sought(tmp_path, select={"train.lr": [1.0, 0.1]}, train={"epochs": 3})


def test_a_database_is_shared_as_a_file_is(tmp_path: Path, runs: Runs) -> None:
    asked = config.parse(BASE | {"out": tmp_path / "out", "select": GRID})
    search(asked, storage=f"sqlite:///{tmp_path}/study.db", trials=2, progress=False)
    found = search(asked, storage=f"sqlite:///{tmp_path}/study.db", progress=False)
    assert len(found["trials"]) == len(runs.ran) == 6


CHILD = """
import json, sys, time
from pathlib import Path
from tests.test_search import BASE, GRID, Runs
from vpt import config, experiment
from vpt.search import search
class Slow(Runs):
    def __call__(self, run, **how):
        print("began", flush=True)
        time.sleep(float(sys.argv[2]))
        return super().__call__(run, **how)
experiment.train = Slow()
search(config.parse(BASE | {"out": Path(sys.argv[1]), "select": GRID}), progress=False)
print(json.dumps([run["out"] for run in experiment.train.ran]), flush=True)
"""


def child(out: Path, seconds: float) -> "subprocess.Popen[str]":
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", CHILD, str(out), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=root, text=True)


@pytest.mark.slow
def test_several_processes_share_the_trials_and_one_that_is_killed_has_its_trial_gone_on_with(
    tmp_path: Path, runs: Runs
) -> None:
    with child(tmp_path, 600) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "began\n"
        killed.send_signal(signal.SIGKILL)
    with child(tmp_path, 0.3) as one, child(tmp_path, 0.3) as other:
        ran = []
        for process in (one, other):
            assert process.stdout is not None
            ran.append(json.loads(process.stdout.read().splitlines()[-1]))
        assert one.wait() == other.wait() == 0
    assert all(ran)
    assert len(ran[0]) + len(ran[1]) == len({*ran[0], *ran[1]}) == 6
    found = sought(tmp_path, select=GRID)
    assert runs.ran == []
    states = [trial["state"] for trial in found["trials"]]
    assert states.count("complete") == 6
    assert states.count("fail") == 1
