"""Few shots, base to new classes, and transfer: what is run, what is measured on what, and what the tables say."""

import csv
import json
from pathlib import Path
from statistics import harmonic_mean, mean
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import vpt
from tests.finished import finished
from vpt import VptError, build, config, experiment, protocols, sweep
from vpt.cli import main
from vpt.engine.outputs import read_predictions, write_predictions
from vpt.protocols.base_to_new import with_harmonic_mean
from vpt.protocols.lines import Line, table, with_averages
from vpt.report.intervals import BEST, LOWER, wilson

THINGS = {"name": "things", "train": 2, "val": 1, "test": 1, "side": 24}
BASE: dict[str, Any] = {
    "backbone": "vpt/clip-nano",
    "method": "coop",
    "data": THINGS,
    "train": {"epochs": 1, "lr": 0.01, "batch_size": 48},
}


def settings(out: Path, **values: Any) -> config.Config:
    return config.parse(BASE | {"out": out} | values)


class Runs:
    """In place of training: a record of what was asked for, and top-1 on the test split as a function of the config."""

    def __init__(self) -> None:
        self.ran: list[config.Config] = []
        self.top1: Any = lambda run: 0.5
        self.sizes = {"test": 3}
        # How many of the test images a run is right on, where what it says of each is kept.
        self.said: Any = None

    def __call__(self, run: config.Config, *, test: bool, **_: Any) -> tuple[None, dict[str, Any]]:
        self.ran.append(run)
        result = finished(
            val={"top1": 0.25},
            test={"top1": self.top1(run)} if test else {},
            tuned_parameters=10 * run.data.get("shots", 1),
            seconds=float(run.seed),
            data={"name": "things", "sizes": self.sizes, "digests": {}},
        )
        if self.said:
            fixed = {"split": "test", "score": 1, "calibrated": "", "of_label": 1, "label": 0}
            hits = [index < self.said(run) for index in range(self.sizes["test"])]
            rows = [fixed | {"image": f"{index}.png", "said": int(not hit)} for index, hit in enumerate(hits)]
            write_predictions(run.out, rows)
        sweep.write(run.out / "result.json", json.dumps(result))
        sweep.write(run.out / "config.yaml", yaml.safe_dump(experiment.as_kept(run)))
        return None, result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(experiment, "train", found)
    return found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """In place of measuring elsewhere: 40 % for every model and every set, and a record of them."""
    seen: list[tuple[str, Any]] = []

    def measure(model: Path, data: vpt.data.base.DataSet, *_: Any, outputs: list[Any], **__: Any) -> dict[str, float]:
        seen.append((str(model), data.classes))
        count = len(data.test or ())
        outputs.append((torch.zeros(count, len(data.classes)), torch.arange(count) % len(data.classes)))
        return {"top1": 0.4}

    monkeypatch.setattr(build, "load_run", lambda run: run)
    monkeypatch.setattr(experiment, "measure_model", measure)
    return seen


def test_a_method_that_looks_at_no_label_has_all_classes_and_is_measured_on_both_halves(
    tmp_path: Path, runs: Runs, measured: list[tuple[str, Any]]
) -> None:
    train = {"epochs": 1, "lr": 0.01, "batch_size": 24, "drop_last": True}
    asked = settings(tmp_path, compare={"promptkd": {"method": "promptkd"}, "coop": {}}, train=train)
    taught, labelled = protocols.base_to_new(asked, progress=False)
    assert [run.data["classes_subset"] for run in runs.ran] == ["all", "base"]
    assert [(Path(run).name, len(classes)) for run, classes in measured] == [
        ("promptkd", 24),
        ("promptkd", 24),
        ("coop", 24),
    ]
    assert measured[0][1] != measured[1][1]
    assert measured[1][1] == measured[2][1]
    assert {taught[column] for column in ("base (%)", "new (%)")} == {"40.00"}
    assert (labelled["base (%)"], labelled["new (%)"]) == ("50.00", "40.00")


def test_base_and_new_are_label_spaces_of_their_own_and_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tmp_path, compare={"coop": {"method.num_tokens": 2}})
    (row,) = protocols.base_to_new(asked, progress=False)

    run, data = tmp_path / "things/coop", vpt.data.load(**THINGS)
    model = vpt.load(run / "best")
    assert model.classes == data.classes[:24]
    result, new = (json.loads((run / name).read_text()) for name in ("result.json", "new.json"))
    assert result["data"]["sizes"] == new["data"]["sizes"] == {"train": 48, "val": 24, "test": 24}
    assert result["data"]["digests"]["test"] != new["data"]["digests"]["test"]

    # What was said of each image of the new classes is kept too, and so are intervals.
    kept = read_predictions(run, "new.csv")
    assert mean(said["said"] == said["label"] for said in kept) == pytest.approx(new["test"]["top1"])
    (told,) = csv.DictReader((tmp_path / "intervals.csv").read_text(encoding="utf-8").splitlines())
    low, high = wilson(new["test"]["top1"], 24)
    assert told == {"run": "coop", "base (%)": told["base (%)"], "base, against the best": ""} | {
        "new (%)": f"{100 * low:.1f} – {100 * high:.1f}",
        "new, against the best": "",
    }

    model.set_classes(data.classes[24:])
    there = vpt.evaluate(model, data.with_classes(range(24, 48)).test, progress=False)["top1"]
    assert new["test"]["top1"] == there
    both = result["test"]["top1"], there
    assert list(row) == ["run", "base (%)", "new (%)", "H (%)", "tuned", "seconds"]
    assert [row[c] for c in ("base (%)", "new (%)")] == [f"{100 * value:.2f}" for value in both]
    assert row["H (%)"] == f"{100 * harmonic_mean(both):.2f}"
    assert row["tuned"] == 2 * model.text.tower.width

    for module, functions in {experiment: ("train", "measure_model"), build: ("load_run", "read_data")}.items():
        for function in functions:
            monkeypatch.setattr(module, function, None)
    assert protocols.base_to_new(asked, progress=False) == [row]
    with pytest.raises(VptError, match=r"things/coop was run with another config \(train.lr was 0.01 and is 0.5\)"):
        protocols.base_to_new(settings(tmp_path, compare=asked.compare, train={**BASE["train"], "lr": 0.5}))


@pytest.mark.parametrize(("base", "new", "harmonic"), [(80.47, 71.69, 75.83), (82.28, 75.14, 78.55)])
def test_harmonic_means_are_those_of_published_averages(base: float, new: float, harmonic: float) -> None:
    """CoCoOp's and MaPLe's, Khattak et al., CVPR 2023, table 3."""
    part = with_harmonic_mean(Line({"base (%)": [base / 100], "new (%)": [new / 100]}, {}, [0], [0.0]))
    assert part.figures["H (%)"] == [pytest.approx(harmonic / 100, abs=5e-5)]


def test_of_several_data_sets_it_is_that_of_the_averages() -> None:
    lines = {
        ("a", "coop"): Line({"base (%)": [0.7, 0.9], "new (%)": [0.4, 0.4]}, {}, [10], [1.0]),
        ("b", "coop"): Line({"base (%)": [0.6, 0.6], "new (%)": [1.0, 0.8]}, {}, [20], [2.0]),
    }
    first, _, average = table({key: with_harmonic_mean(part) for key, part in with_averages(lines).items()})
    assert (first["data"], first["base (%)"], first["new (%)"]) == ("a", "80.00 ± 14.14", "40.00 ± 0.00")
    assert first["H (%)"] == "53.33"  # 2 · 0.8 · 0.4 / 1.2
    assert (average["data"], average["base (%)"], average["new (%)"]) == ("average", "70.00 ± 7.07", "65.00 ± 7.07")
    assert average["H (%)"] == "67.41"  # 2 · 0.7 · 0.65 / 1.35, and not (53.33 + 72.00) / 2
    assert (average["tuned"], average["seconds"]) == (15, 1.5)


def test_few_shot_runs_every_number_of_shots_and_zero_shot_once(tmp_path: Path, runs: Runs) -> None:
    runs.top1 = lambda run: 0.1 * run.data["shots"] + 0.01 * run.seed
    rows = {"zero-shot": {"method": "zero-shot"}, "coop": {}}
    zero, coop = protocols.few_shot(settings(tmp_path, shots=[1, 4], seeds=[1, 2], compare=rows))
    assert [str(run.out.relative_to(tmp_path)) for run in runs.ran] == [
        *(f"things/zero-shot/seed-{seed}" for seed in (1, 2)),
        *(f"things/coop/{shots}-shot/seed-{seed}" for shots in (1, 4) for seed in (1, 2)),
    ]
    assert [run.data["shots"] for run in runs.ran[2:]] == [1, 1, 4, 4]
    expected = {"run": "coop", "1-shot (%)": "11.50 ± 0.71", "4-shot (%)": "41.50 ± 0.71"}
    assert coop == expected | {"tuned": "10 / 40", "seconds": 1.5}
    assert zero["1-shot (%)"] == zero["4-shot (%)"]
    assert {path.name for path in tmp_path.glob("table.*")} == {"table.md", "table.csv", "table.tex"}
    assert r"41.50 $\pm$ 0.71" in (tmp_path / "table.tex").read_text()

    runs.ran.clear()
    protocols.few_shot(settings(tmp_path, shots=[1, 2, 4], seeds=[1, 2], compare=rows))
    assert [run.data["shots"] for run in runs.ran] == [2, 2]


def test_few_shot_tells_rows_apart_image_by_image_for_each_number_of_shots(tmp_path: Path, runs: Runs) -> None:
    # Of 300 images, with 4 shots, one row gets the last ten right beside those of the other; with 1 none.
    def right(run: config.Config) -> int:
        more = 10 if run.method["name"] == "kgcoop" and run.data["shots"] == 4 else 0
        return 150 + more

    runs.top1 = lambda run: right(run) / 300
    runs.sizes = {"test": 300}
    runs.said = right
    asked = settings(tmp_path, shots=[1, 4], seeds=[1, 2], compare={"coop": {}, "kgcoop": {"method": "kgcoop"}})
    protocols.few_shot(asked)
    rows = {
        row["run"]: row for row in csv.DictReader((tmp_path / "intervals.csv").read_text(encoding="utf-8").splitlines())
    }
    assert {label: row["4-shot, against the best"] for label, row in rows.items()} == {"coop": LOWER, "kgcoop": BEST}
    assert rows["coop"]["1-shot, against the best"] == BEST
    low, high = wilson(0.5, 300)
    assert rows["coop"]["4-shot (%)"] == f"{100 * low:.1f} – {100 * high:.1f}"


def test_shots_data_sets_and_rows_change_the_config_the_nearest_to_the_method_last(tmp_path: Path, runs: Runs) -> None:
    shots = {1: {"train.epochs": 50}, 16: {"train.epochs": 200}}
    sets = ["things", {"name": "things", "as": "large", "side": 48, "train.epochs": 60}]
    rows = {"coop": {}, "maple": {"method": "maple", "train.epochs": 5}}
    protocols.few_shot(settings(tmp_path, shots=shots, datasets=sets, compare=rows))
    assert {str(run.out.relative_to(tmp_path)): run.train["epochs"] for run in runs.ran} == {
        "things/coop/1-shot": 50,
        "things/coop/16-shot": 200,
        "things/maple/1-shot": 5,
        "things/maple/16-shot": 5,
        "large/coop/1-shot": 60,
        "large/coop/16-shot": 60,
        "large/maple/1-shot": 5,
        "large/maple/16-shot": 5,
    }
    assert {run.data["side"] for run in runs.ran if "large" in str(run.out)} == {48}


def test_the_shared_options_of_data_hold_for_every_data_set(tmp_path: Path, runs: Runs, measured: list[Any]) -> None:
    protocols.base_to_new(settings(tmp_path, data={**THINGS, "shots": 2}, datasets=["digits"], train={}))
    assert [run.data for run in runs.ran] == [{"name": "digits", "shots": 2, "classes_subset": "base"}]
    assert measured == [(str(tmp_path / "digits/coop"), ("five", "six", "seven", "eight", "nine"))]


def test_a_target_is_measured_once_and_again_with_other_options(
    tmp_path: Path, runs: Runs, measured: list[Any]
) -> None:
    aims = [{**THINGS, "scene_seed": 1, "as": "others"}, "digits"]
    (row,) = protocols.transfer(settings(tmp_path, targets=aims))
    expected = {"source (%)": "50.00", "others (%)": "40.00", "digits (%)": "40.00", "average (%)": "40.00"}
    assert {key: row[key] for key in expected} == expected
    assert [len(classes) for _, classes in measured] == [48, 10]
    kept = json.loads((tmp_path / "things/coop/target-others.json").read_text())
    assert (kept["data"]["name"], kept["data"]["sizes"]["test"]) == ("things", 48)

    measured.clear()
    assert protocols.transfer(settings(tmp_path, targets=aims)) == [row]
    assert not measured
    aims[0]["scene_seed"] = 2
    protocols.transfer(settings(tmp_path, targets=aims))
    assert len(measured) == 1


def test_what_belongs_to_its_classes_is_tested_on_other_images_of_them_alone(
    tmp_path: Path, runs: Runs, measured: list[Any]
) -> None:
    own = {"method": {"name": "coop", "csc": True, "num_tokens": 2}, "compare": {"own": {}}}
    protocols.transfer(settings(tmp_path, targets=[{**THINGS, "scene_seed": 1}], **own))
    assert len(measured) == 1
    with pytest.raises(VptError, match=r"compare.own cannot be tested on other classes: csc=True learned a context"):
        protocols.transfer(settings(tmp_path / "x", targets=["digits"], **own))


def test_without_the_test_split_figures_are_of_validation_images(
    tmp_path: Path, runs: Runs, measured: list[Any]
) -> None:
    for make, column in ((protocols.base_to_new, "val base (%)"), (protocols.transfer, "val source (%)")):
        (row,) = make(settings(tmp_path / make.__name__, targets=["digits"]), test=False)
        assert list(row) == ["run", column, "tuned", "seconds"]
    (row,) = protocols.few_shot(settings(tmp_path, shots=[1]), test=False)
    assert row["val 1-shot (%)"] == "25.00"
    assert not measured


@pytest.mark.parametrize(
    ("make", "values", "sentence"),
    [
        (
            "base_to_new",
            {"compare": {"a": {}, "b": {"method": "linear"}}},
            "compare.b cannot be tested on other",
        ),
        (
            "base_to_new",
            {"compare": {"t": {"method": "tip-adapter"}}},
            "the cache of tip-adapter knows its own",
        ),
        (
            "base_to_new",
            {"method": {"name": "coop", "csc": True}},
            "csc=True learned a context for each",
        ),
        ("base_to_new", {"compare": {"a": {"data.classes_subset": "new"}}}, "compare.a changes data.classes_subset"),
        ("base_to_new", {"datasets": ["digits", "digts"]}, "there is no data set 'digts': did you mean 'digits'?"),
        ("base_to_new", {"datasets": ["digits", "digits"]}, "datasets has two of the name digits"),
        ("base_to_new", {"datasets": ["digits", "food101"]}, "food101"),
        ("few_shot", {}, "few-shot has no shots"),
        ("few_shot", {"shots": [0]}, "data.shots=0 leaves nothing to train on"),
        ("few_shot", {"shots": ["many"]}, "shots='many' will not do"),
        ("few_shot", {"shots": [1], "compare": {"a": {"data": "digits"}}}, "compare.a changes data, which is the same"),
        ("few_shot", {"shots": {1: {"train.epoch": 3}}}, "train.epoch is no option of train: did you mean 'epochs'?"),
        ("few_shot", {"shots": [1], "data": "digits", "datasets": [{"path": "x"}]}, "it needs a name"),
        ("transfer", {}, "transfer has nothing to test on"),
        ("transfer", {"targets": ["digits", "thigns"]}, "there is no data set 'thigns': did you mean 'things'?"),
        ("transfer", {"targets": [{"name": "digits", "train.epochs": 3}]}, "targets: digits changes train.epochs"),
        (
            "transfer",
            {"targets": [{"name": "scenes", "train": 4, "val": 2, "test": 2}]},
            "scenes has captions",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_run(
    make: str, values: dict[str, Any], sentence: str, tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    with pytest.raises(VptError) as error:
        getattr(protocols, make)(settings(tmp_path / "out", **values))
    assert sentence in str(error.value)
    assert not runs.ran


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("method", ["coop", "promptkd"])
def test_halves_of_fewer_than_two_classes_are_refused_before_anything_is_run(
    method: str, test: bool, tmp_path: Path, runs: Runs
) -> None:
    train = {"epochs": 1, "lr": 0.01, "batch_size": 2, "drop_last": method == "promptkd"}
    for label in ("blue", "green", "red"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / "photos" / label / f"{number}.png")
    photos = {"name": "folder", "path": str(tmp_path / "photos"), "val_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(VptError, match=r"photos has 3 classes: base-to-new needs 4 or more, two for each half\."):
        protocols.base_to_new(settings(tmp_path / "out", method=method, data=photos, train=train), test=test)
    assert not runs.ran


def test_the_command_takes_some_rows_alone(tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shots.yaml"
    rows = {"a": {}, "b": {"train.epochs": 2}}
    path.write_text(json.dumps(BASE | {"out": str(tmp_path / "runs"), "shots": [1], "compare": rows}))
    assert main(["few-shot", str(path), "--quiet", "--row", "b", "seed=3"]) == 0
    assert [(str(run.out), run.seed) for run in runs.ran] == [(f"{tmp_path}/runs/things/b/1-shot", 3)]
    assert "table.tex" in capsys.readouterr().out
    assert main(["few-shot", str(path), "--row", "c"]) == 2
    assert "there is no row 'c' in compare: there is a, b." in capsys.readouterr().err
