"""Looks inside a run and new class names after training, on the command line."""

import json
from pathlib import Path

import pytest
import yaml

import vpt
from vpt.cli import main

CLASSES = ["red circle", "blue square"]
NEW = ["dog", "cat", "green cross"]


def saved(folder: Path, method: str, **options: object) -> str:
    vpt.create("vpt/clip-nano", method, classes=CLASSES, **options).save_pretrained(folder / method)
    return str(folder / method)


@pytest.fixture(scope="module")
def coop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run directory of CoOp with unified context, which `vpt train` wrote, and an image."""
    folder = tmp_path_factory.mktemp("coop")
    vpt.data.load("things", train=1, val=1, test=1).test.image(3).save(folder / "thing.png")
    config = {
        "backbone": "vpt/clip-nano",
        "method": {"name": "coop", "num_tokens": 2},
        "data": {"name": "things", "train": 1, "val": 1, "test": 1},
        "train": {"epochs": 1, "batch_size": 48, "lr": 0.01, "warmup_epochs": 0},
        "out": str(folder / "run"),
    }
    (folder / "things.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(folder / "things.yaml"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def expected(coop: Path) -> dict[str, float]:
    """What the learned context says of new names, in Python."""
    model = vpt.load(coop / "run/best")
    model.set_classes(NEW)
    return model.predict(coop / "thing.png").scores


def predicted(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, float]:
    capsys.readouterr()
    assert main(["predict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["scores"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence that a command was refused with."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def test_learned_context_goes_with_new_labels(
    coop: Path, expected: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predicted(capsys, coop / "run", coop / "thing.png", "--labels", *NEW) == pytest.approx(expected)


def test_a_model_with_new_classes_is_saved_and_used(
    coop: Path, expected: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classes", str(coop / "run"), *NEW, "--out", str(tmp_path / "new")]) == 0
    assert f"try: vpt predict {tmp_path / 'new'}" in capsys.readouterr().out
    assert predicted(capsys, tmp_path / "new", coop / "thing.png") == pytest.approx(expected)
    facts = json.loads((tmp_path / "new/vpt.json").read_text())
    assert facts["classes"] == NEW
    # Figures that were measured with other classes are not those of this model.
    assert facts["metrics"] == {}


def test_nothing_is_written_over_unasked(coop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    command = ["classes", str(coop / "run"), *NEW, "--out"]
    assert "holds something already: name another place, or say overwrite" in refused(capsys, *command, tmp_path)
    assert main([*command, str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
    assert "is a run directory" in refused(capsys, *command, coop / "run", "--overwrite")


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("coop", {"num_tokens": 2, "csc": True}, "learned a context for each of its classes: train a unified one"),
        ("linear", {}, "a linear head knows its own classes alone"),
    ],
)
def test_what_belongs_to_its_classes_says_why_there_can_be_no_others(
    method: str,
    options: dict[str, object],
    sentence: str,
    coop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = saved(tmp_path, method, **options)
    assert sentence in refused(capsys, "predict", run, coop / "thing.png", "--labels", *NEW)
    assert sentence in refused(capsys, "classes", run, *NEW, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_names_and_templates_are_checked(coop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", tmp_path / "new"]
    assert "two classes are both named 'dog'" in refused(capsys, "classes", coop / "run", "dog", "dog", *out)
    learned = refused(capsys, "classes", coop / "run", *NEW, *out, "--templates", "a {}")
    assert "coop learned what stands around class names: leave --templates out" in learned
    assert "must hold one {}" in refused(capsys, "classes", "vpt/clip-nano", *NEW, *out, "--templates", "a dog")
    assert main(["classes", "vpt/clip-nano", *NEW, "--out", str(tmp_path / "new"), "--templates", "a {}"]) == 0
    assert json.loads((tmp_path / "new/vpt.json").read_text())["templates"] == ["a {}"]


def test_words_near_to_learned_context(coop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", saved(tmp_path, "coop", init="a photo of"), "--top", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["words"][0] for row in rows] == [{"word": w, "distance": 0.0} for w in ("a", "photo", "of")]
    assert [len(row["words"]) for row in rows] == [2, 2, 2]
    assert main(["words", str(coop / "run")]) == 0
    assert "token" in capsys.readouterr().out
    assert "vpt-deep learns no context of texts" in refused(capsys, "words", saved(tmp_path, "vpt-deep"))


def test_a_picture_of_attention(coop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, image, picture = saved(tmp_path, "maple"), coop / "thing.png", tmp_path / "shown/attention.png"
    command = ["attention", run, str(image), "--out"]
    assert main([*command, str(picture), "--blocks", "0", "4", "--each-prompt"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{picture} is there already: name another place, or say overwrite" in refused(capsys, *command, picture)
    assert main([*command, str(picture), "--blocks", "0", "--overwrite"]) == 0
    assert "is no name of a picture: let it end in one of" in refused(capsys, *command, tmp_path / "attention.txt")
    assert "there is no block 6" in refused(capsys, *command, tmp_path / "other.png", "--blocks", "6")
    assert not (tmp_path / "other.png").exists()
