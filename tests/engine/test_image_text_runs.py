"""Image-text training: it learns, it is resumed, image features that stay are computed once."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import vpt
from tests.tape import TapeRecorder
from tests.text_models import image_text_model
from vpt.capture import Graphs
from vpt.cli import main
from vpt.engine import retrieval

SCENES = {"name": "scenes", "train": 24, "val": 12, "test": 12, "side": 24}


def experiment(tmp_path: Path, **changes: object) -> Path:
    config = {
        "backbone": "vpt/clip-nano",
        "method": {"name": "vpt-deep", "num_tokens": 2},
        "data": SCENES,
        "train": {"epochs": 2, "batch_size": 12, "optimizer": "adamw", "lr": 0.01},
        "out": str(tmp_path / "run"),
    }
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({**config, **changes}))
    return path


def test_train_eval_and_search_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(experiment(tmp_path)), "--quiet"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["data"]["captions"] == {"train": 96, "val": 48, "test": 48}
    assert set(result["test"]) >= {"i2t_r1", "t2i_r10", "i2t_median", "rsum"}
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rsum"] == pytest.approx(result["test"]["rsum"])

    scenes = vpt.data.load(**SCENES)
    (tmp_path / "images").mkdir()
    for index in range(5):
        scenes.test.image(index).save(tmp_path / "images" / f"{index}.png")
    assert main(["search", str(tmp_path / "run"), "a red ring", str(tmp_path / "images"), "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 3
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)

    labels = ["a red ring", "a blue star"]
    assert (
        main(["predict", str(tmp_path / "run"), str(tmp_path / "images" / "0.png"), "--json", "--labels", *labels]) == 0
    )
    assert set(json.loads(capsys.readouterr().out)["scores"]) == set(labels)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    data = vpt.data.load(**SCENES)
    states = []
    for name in ("whole", "parts"):
        model = vpt.attach(image_text_model(context_length=24), "full", head="text", learn_scale=True)
        options = {"epochs": 2, "batch_size": 8, "optimizer": "adamw", "seed": 1, "progress": False}
        if name == "parts":
            stop = RuntimeError("stopped")
            ended = model.method.end_epoch

            def end_epoch(epoch: int, epochs: int, stop: Exception = stop, ended=ended) -> None:
                ended(epoch, epochs)
                if epoch == 2:
                    raise stop

            model.method.end_epoch = end_epoch
            with pytest.raises(RuntimeError, match="stopped"):
                vpt.fit(model, data.train, data.val, run_dir=tmp_path / name, **options)
            model = vpt.attach(image_text_model(context_length=24), "full", head="text", learn_scale=True)
        vpt.fit(model, data.train, data.val, run_dir=tmp_path / name, resume=name == "parts", **options)
        states.append(model.tuned_state())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_learning_the_text_side_reads_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vpt.data.load(**SCENES)
    model = vpt.attach(image_text_model(context_length=32), "coop", head="text")
    seen = []
    embed = model.tower.embed
    monkeypatch.setattr(model.tower, "embed", lambda images: seen.append(len(images)) or embed(images))
    vpt.fit(model, data.train, data.val, epochs=3, batch_size=12, progress=False)
    assert sum(seen) == 24 + 12


def test_captions_that_are_too_long_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    rows = []
    for index in range(8):
        Image.new("RGB", (24, 24), (index * 30, 0, 0)).save(tmp_path / f"{index}.png")
        rows.append({"image": f"{index}.png", "caption": "a red picture" + " and more" * (60 if index == 0 else 0)})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = experiment(tmp_path, data={"name": "captions", "path": str(tmp_path / "captions.jsonl")})
    assert main(["train", str(path), "train.epochs=1", "--quiet"]) == 0
    assert "1 of 8 captions have more than 77 tokens and are cut" in capsys.readouterr().err


def test_images_of_captions_that_captured_passes_evaluate_rank_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = vpt.create("vpt/clip-nano", "ivlp", head="text", classes=()), vpt.data.load(**SCENES)
    expected = vpt.evaluate(model, data.test, batch_size=2, progress=False)
    recorder = TapeRecorder()
    monkeypatch.setattr(retrieval, "repeated", lambda function, *_: Graphs(function, recorder, failed=pytest.fail))
    assert vpt.evaluate(model, data.test, batch_size=2, progress=False) == pytest.approx(expected)
    assert recorder.replayed > 1
