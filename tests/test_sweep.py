"""Options are selected on validation images, with the test split left alone, and what was seen is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.finished import finished
from vpt import VptError, config, experiment, sweep
from vpt.errors import DivergedError

BASE: dict[str, Any] = {"backbone": "vpt/vit-nano", "method": "linear", "data": "digits"}


class Runs:
    """In place of training: top-1 on validation images as a function of the config, and a record of what was run."""

    def __init__(self, top1: Any) -> None:
        self.top1 = top1
        self.ran: list[tuple[str, bool]] = []

    def __call__(self, run: config.Config, *, test: bool, **_: Any) -> tuple[None, dict[str, Any]]:
        self.ran.append((str(run.out), test))
        test_figures = {"top1": 0.5} if test else {}
        figures = finished(val={"top1": self.top1(run)}, test=test_figures, options=run.train)
        run.out.mkdir(parents=True)
        (run.out / "result.json").write_text(json.dumps(figures))
        (run.out / "config.yaml").write_text(yaml.safe_dump(experiment.as_kept(run)))
        return None, figures


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Rates nearer to 0.1 are better; seed 2 prefers 1.0 by less."""
    best = {1: {0.01: 0.6, 0.1: 0.8, 1.0: 0.7}, 2: {0.01: 0.6, 0.1: 0.7, 1.0: 0.75}}
    found = Runs(lambda run: best[run.seed].get(run.train.get("lr"), 0.0))
    monkeypatch.setattr(experiment, "train", found)
    return found


def compare(out: Path, *, test: bool = True, **values: Any) -> list[dict[str, Any]]:
    return sweep.compare(config.parse(BASE | {"out": out, "seeds": [1, 2]} | values), test=test)


def selection(out: Path) -> dict[str, Any]:
    return json.loads((out / "selection.json").read_text())


def test_the_best_mean_on_validation_is_run_with_every_seed_and_tested(tmp_path: Path, runs: Runs) -> None:
    compare(tmp_path, select={"train.lr": [1.0, 0.1, 0.01]}, compare={"a": {}})
    kept = selection(tmp_path)["a"]
    assert kept["chosen"] == {"train.lr": 0.1}
    assert kept["seeds"] == [1, 2]
    assert kept["trials"][0] == {"options": {"train.lr": 1.0}, "val_top1": [0.7, 0.75], "mean": pytest.approx(0.725)}
    trials = [f"{tmp_path}/trials/a/train.lr={lr}/seed-{seed}" for lr in (1.0, 0.1, 0.01) for seed in (1, 2)]
    assert runs.ran == [(trial, False) for trial in trials] + [(f"{tmp_path}/a/seed-{seed}", True) for seed in (1, 2)]
    assert json.loads((tmp_path / "a/seed-2/result.json").read_text())["options"] == {"lr": 0.1}


def test_selection_may_have_seeds_of_its_own(tmp_path: Path, runs: Runs) -> None:
    compare(tmp_path, seeds=[1], select_seeds=[2], select={"train.lr": [0.01, 1.0, 0.1]}, compare={"a": {}})
    assert selection(tmp_path)["a"]["chosen"] == {"train.lr": 1.0}


def test_of_equals_the_smaller_rate_wins(tmp_path: Path, runs: Runs) -> None:
    compare(tmp_path, select={"train.lr": [10.0, "1e-5", 5.0]}, compare={"a": {}})
    assert selection(tmp_path)["a"]["chosen"] == {"train.lr": "1e-5"}


def test_a_row_may_have_a_grid_of_its_own_or_none(tmp_path: Path, runs: Runs) -> None:
    rows = {"all": {}, "own": {"select": {"train.lr": [0.01, 1.0]}}, "none": {"select": {}, "train.lr": 0.01}}
    compare(tmp_path, select={"train.lr": [0.1, 1.0]}, compare=rows)
    assert {label: kept["chosen"]["train.lr"] for label, kept in selection(tmp_path).items()} == {
        "all": 0.1,
        "own": 1.0,
    }


def test_what_is_done_is_not_done_again(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    table = compare(tmp_path, select={"train.lr": [0.1, 1.0]}, compare={"a": {}})
    first = selection(tmp_path)
    runs.ran.clear()
    assert compare(tmp_path, select={"train.lr": [0.1, 1.0]}, compare={"a": {}}) == table
    assert selection(tmp_path) == first
    compare(tmp_path, select={"train.lr": [0.1, 1.0, 0.01]}, compare={"a": {}})
    assert runs.ran == [(f"{tmp_path}/trials/a/train.lr=0.01/seed-{seed}", False) for seed in (1, 2)]


def test_a_point_that_diverges_is_never_chosen(tmp_path: Path, runs: Runs) -> None:
    def top1(run: config.Config) -> float:
        if run.train["lr"] > 0.5 and run.seed == 2:
            raise DivergedError("the loss is nan")
        return run.train["lr"]

    runs.top1 = top1
    compare(tmp_path, select={"train.lr": [0.1, 1.0]}, compare={"a": {}})
    assert selection(tmp_path)["a"]["chosen"] == {"train.lr": 0.1}
    assert selection(tmp_path)["a"]["trials"][1] == {
        "options": {"train.lr": 1.0},
        "val_top1": [1.0, None],
        "mean": None,
    }
    with pytest.raises(VptError, match=r"compare\.a diverged at every point of select"):
        compare(tmp_path / "again", select={"train.lr": [1.0, 2.0]}, compare={"a": {}})


def test_rows_that_are_run_apart_share_a_folder(tmp_path: Path, runs: Runs) -> None:
    rows = {"a": {}, "b": {"select": {"train.lr": [0.01, 1.0]}}}
    both = config.parse(BASE | {"out": tmp_path, "seeds": [1], "select": {"train.lr": [0.1, 1.0]}, "compare": rows})
    for label in rows:
        sweep.compare(sweep.only(both, [label]))
    assert {label: kept["chosen"]["train.lr"] for label, kept in selection(tmp_path).items()} == {"a": 0.1, "b": 1.0}
    runs.ran.clear()
    assert [row["run"] for row in sweep.compare(both)] == ["a", "b"]
    assert not runs.ran


def test_the_test_split_can_be_left_alone_altogether(tmp_path: Path, runs: Runs) -> None:
    table = compare(tmp_path, test=False, select={"train.lr": [0.1, 1.0]}, compare={"a": {}})
    assert not any(tested for _, tested in runs.ran)
    assert "test top-1 (%)" not in table[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"select": {"train.lrr": [1, 2]}}, "train.lrr is no option of train: did you mean 'lr'?"),
        ({"select": {"train.lr": []}}, "select.train.lr names no values"),
        ({"select": {"train.lr": 0.1}}, "select=0.1 will not do: input should be a valid list"),
        ({"select": {"train.lr": ["many", 1]}}, "train.lr='many' will not do"),
    ],
)
def test_a_wrong_grid_is_told_before_anything_is_run(
    values: dict[str, Any], sentence: str, tmp_path: Path, runs: Runs
) -> None:
    with pytest.raises(VptError) as error:
        compare(tmp_path, compare={"a": {}}, **values)
    assert sentence in str(error.value)
    assert not runs.ran
