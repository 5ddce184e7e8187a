"""The command line as a new user meets it: what it makes, what it prints, what its exit code says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from vpt.cli import main

EXPERIMENT = {
    "backbone": {
        "name": "timm/vit_tiny_patch16_224",
        "pretrained": False,
        "image_size": 16,
        "patch_size": 8,
        "depth": 2,
        "embed_dim": 12,
        "num_heads": 2,
    },
    "method": {"name": "vpt-deep", "num_tokens": 2},
    "data": "folder",
    "train": {"epochs": 2, "batch_size": 8, "lr": 0.01, "warmup_epochs": 0},
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with images of two classes and an experiment on them."""
    monkeypatch.chdir(tmp_path)
    for label, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(12):
            shade = tuple(min(255, c + 3 * index) for c in colour)
            Image.new("RGB", (20, 20), shade).save(tmp_path / "photos" / label / f"{index:02d}.png")
    experiment = {**EXPERIMENT, "data": {"name": "folder", "path": "photos"}}
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(experiment))
    return tmp_path


def test_train_then_eval_then_predict(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "colours.yaml", "train.epochs=3", "--quiet"]) == 0
    run = work / "runs" / "colours"
    assert "vpt predict runs/colours" in capsys.readouterr().out
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 3
    result = json.loads((run / "result.json").read_text())
    assert result["tuned_parameters"] == 2 * 2 * 12 + 12 * 2 + 2
    assert result["data"]["sizes"] == {"train": 16, "val": 4, "test": 4}

    # At random weights a backbone made again is another one, and is refused.
    assert main(["eval", "runs/colours"]) == 2
    assert "was trained with timm/vit_tiny_patch16_224 of fingerprint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", ["train.augment=flipp", "train.lrr=1", "data.path=fotos", "method=vpt-dep", "method.num_tokens=0"]
)
def test_a_mistake_leaves_no_run_behind(wrong: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "colours.yaml", wrong, "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("vpt: ")
    assert not (work / "runs").exists()


@pytest.fixture
def trained(work: Path) -> Path:
    """A finished run on a backbone that can be made again: pretrained by the command itself."""
    assert main(["pretrain", "colours.yaml", "method=full", "out=runs/backbone", "--quiet"]) == 0
    backbone = "backbone={name: 'timm/local-dir:runs/backbone/backbone'}"
    assert main(["train", "colours.yaml", backbone, "--quiet"]) == 0
    return work


def test_a_pretrained_backbone_is_written_and_used(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.name for path in (trained / "runs/backbone/backbone").iterdir()}
    assert files == {"config.json", "model.safetensors", "result.json"}
    assert main(["inspect", "timm/local-dir:runs/backbone/backbone"]) == 0
    printed = capsys.readouterr().out
    assert "opened" in printed
    assert "12" in printed


@pytest.mark.parametrize("command", ["train", "eval", "compare", "report", "few-shot", "transfer"])
def test_a_name_that_no_system_takes_is_a_mistake(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "x" * 5000]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "longer than the system takes" in said
    assert len(said) < 200


def test_eval_prints_what_the_run_recorded(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["eval", "runs/colours", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    recorded = json.loads((trained / "runs/colours/result.json").read_text())["test"]
    assert measured["images"] == 4
    assert {key: measured[key] for key in recorded} == pytest.approx(recorded)


def test_eval_on_other_data(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "photos").rename(trained / "moved")
    assert main(["eval", "runs/colours"]) == 2
    assert main(["eval", "runs/colours", "data.path=moved", "--split", "train"]) == 0
    for other in ("train.epochs=3", "datasets=[digits]", "data_root=moved", "dat=digits"):
        assert main(["eval", "runs/colours", other]) == 2
        assert f"{other!r} does not change the data" in capsys.readouterr().err


def test_predict_as_a_table_and_as_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    image = "photos/red/00.png"
    assert main(["predict", "runs/colours", image, "photos/blue", "--json", "--top", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 13
    assert lines[0]["image"] == image
    assert list(lines[0]["scores"]) == [lines[0]["label"]]
    assert main(["predict", "runs/colours/best", image]) == 0
    assert image in capsys.readouterr().out
    assert main(["predict", "runs/colours", "photos/green.png"]) == 2
    assert "there is no image 'photos/green.png'" in capsys.readouterr().err


def test_what_to_try_next_can_be_pasted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "colours.yaml", "--quiet", "out=runs/my run #2"]) == 0
    assert "try: vpt predict 'runs/my run #2' IMAGES…" in capsys.readouterr().out


def test_a_run_is_not_overwritten_unasked(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "colours.yaml", "--quiet"]) == 0
    assert main(["train", "colours.yaml", "--quiet"]) == 2
    assert "runs/colours holds something already" in capsys.readouterr().err
    assert main(["train", "colours.yaml", "--quiet", "--overwrite"]) == 0


def test_a_run_goes_on_only_with_the_config_that_it_was_begun_with(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "colours.yaml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["train", "colours.yaml", "--quiet", "--resume", "train.lr=0.5", "method.num_tokens=3"]) == 2
    error = capsys.readouterr().err
    assert "method.num_tokens was 2 and is 3, train.lr was 0.01 and is 0.5" in error
    assert len(error.splitlines()) == 1
    # What no result depends on may change.
    assert main(["train", "colours.yaml", "--quiet", "--resume", "train.workers=1", "data.check=false"]) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_while_training_is_named_in_one_sentence(
    workers: int, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("blue", "red"):
        for path in (work / "photos" / label).iterdir():
            path.write_bytes(b"nonsense")
    assert main(["train", "colours.yaml", "--quiet", "data.check=false", f"train.workers={workers}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vpt: photos/")
    assert error.endswith("is no image that can be read: replace or remove it.\n")
    assert len(error.splitlines()) == 1


def test_the_test_split_can_be_left_alone_and_measured_later(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((trained / "runs/colours/result.json").read_text())
    config = yaml.safe_load((trained / "runs/colours/config.yaml").read_text())
    (trained / "colours.yaml").write_text(yaml.safe_dump(config | {"compare": {"a row": {}}}))
    table = ["compare", "colours.yaml", "out=runs/table", "--quiet"]
    assert main([*table, "--no-test"]) == 0
    assert "test top-1" not in (trained / "runs/table/table.md").read_text()
    row = trained / "runs/table/a row"
    assert json.loads((row / "result.json").read_text())["test"] == {}
    assert not any(key.startswith("test/") for key in json.loads((row / "best/vpt.json").read_text())["metrics"])

    monkeypatch.setattr("vpt.experiment.train", None)
    assert main(table) == 0
    assert "test top-1" in (trained / "runs/table/table.md").read_text()
    filled = json.loads((row / "result.json").read_text())
    assert {key: filled[key] for key in ("test", "confusion", "val")} == {
        key: recorded[key] for key in ("test", "confusion", "val")
    }
    assert "test/top1" in json.loads((row / "best/vpt.json").read_text())["metrics"]
    assert main([*table, "--no-test"]) == 0
    assert "test top-1" not in (trained / "runs/table/table.md").read_text()


def test_train_leaves_the_test_split_alone_when_asked_to(work: Path) -> None:
    assert main(["train", "colours.yaml", "--quiet", "--no-test"]) == 0
    result = json.loads((work / "runs/colours/result.json").read_text())
    assert (result["test"], result["confusion"]) == ({}, None)
    assert "top1" in result["val"]


def test_a_test_split_that_changed_is_not_measured(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((trained / "runs/colours/config.yaml").read_text())
    (trained / "colours.yaml").write_text(yaml.safe_dump(config | {"compare": {"a row": {}}}))
    assert main(["compare", "colours.yaml", "out=runs/table", "--quiet", "--no-test"]) == 0
    (trained / "photos/red/00.png").rename(trained / "photos/red/99.png")
    assert main(["compare", "colours.yaml", "out=runs/table", "--quiet"]) == 2
    assert "1 images of the run are no longer in" in capsys.readouterr().err


def test_nothing_is_written_when_the_config_is_wrong(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("train.epoch=3", "method=vpt-dep", "data.path=none", "backbone=timm/vit_huge", "data.shots=0"):
        assert main(["train", "colours.yaml", wrong, "--quiet"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("vpt: ")
        assert len(error.splitlines()) == 1
    assert not (work / "runs").exists()


def test_compare_prints_a_row_a_method_and_goes_on_where_it_was(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((work / "colours.yaml").read_text())
    config |= {"seeds": [1, 2], "compare": {"linear": {"method": "linear"}, "deep": {"train.epochs": 1}}}
    (work / "table.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", "table.yaml", "--quiet"]) == 0
    table = (work / "runs/table/table.md").read_text()
    assert table.count("\n") == 4
    assert "±" in table
    assert len((work / "runs/table/deep/seed-2/metrics.jsonl").read_text().splitlines()) == 1
    made = (work / "runs/table/linear/seed-1/result.json").stat().st_mtime_ns
    assert main(["compare", "table.yaml", "--quiet"]) == 0
    assert (work / "runs/table/linear/seed-1/result.json").stat().st_mtime_ns == made
    capsys.readouterr()
    assert main(["compare", "table.yaml", "train.lr=0.5", "--quiet"]) == 2
    assert "was run with another config" in capsys.readouterr().err


def test_compare_selects_a_rate_on_validation_images(work: Path) -> None:
    config = yaml.safe_load((work / "colours.yaml").read_text())
    config |= {"seeds": [1, 2], "select_seeds": [3], "compare": {"deep": {}}, "select": {"train.lr": [1e-6, 0.05]}}
    (work / "table.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", "table.yaml", "--quiet"]) == 0
    table = work / "runs/table"
    chosen = json.loads((table / "selection.json").read_text())["deep"]
    assert chosen["chosen"] == {"train.lr": 0.05}
    assert len(chosen["trials"]) == 2
    trial = json.loads((table / "trials/deep/train.lr=0.05/seed-3/result.json").read_text())
    assert trial["test"] == {}
    assert trial["val"]["top1"] == chosen["trials"][1]["mean"]
    for seed in (1, 2):
        assert yaml.safe_load((table / f"deep/seed-{seed}/config.yaml").read_text())["train"]["lr"] == 0.05
        assert "top1" in json.loads((table / f"deep/seed-{seed}/result.json").read_text())["test"]


def test_compare_needs_rows(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "colours.yaml"]) == 2
    assert "has no rows to compare" in capsys.readouterr().err


def test_fit_batch_prints_what_the_config_is_to_say(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-batch", "colours.yaml", "--quiet"]) == 2
    assert "as --max" in capsys.readouterr().err
    assert main(["fit-batch", "colours.yaml", "--quiet", "--max", "5"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"train": {"batch_size": 4, "accumulate": 2}}
    assert not (work / "runs").exists()


def test_pretraining_is_of_the_whole_backbone(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "colours.yaml"]) == 2
    assert "set method=full, not vpt-deep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "expected"),
    [("methods", "vpt-shallow"), ("backbones", "timm/vit_base_patch16_224"), ("datasets", "torchvision/*")],
)
def test_lists(what: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert expected in capsys.readouterr().out
    assert main(["list", what, "no such thing"]) == 2


def test_help_reads_well() -> None:
    done = subprocess.run([sys.executable, "-m", "vpt", "--help"], capture_output=True, text=True, check=True)
    for command in ("train", "compare", "pretrain", "eval", "predict", "list", "inspect", "exit codes"):
        assert command in done.stdout


def test_an_interrupt_says_how_to_go_on(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vpt.experiment.train", interrupt)
    assert main(["train", "colours.yaml"]) == 130
    assert "--resume" in capsys.readouterr().err
