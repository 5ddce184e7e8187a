"""The data of a run stay its data, a finished run is not made twice, and what it has learned is gone on with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from vpt import VptError, beyond, config, experiment, sweep
from vpt.data import READING
from vpt.digest import of_file
from vpt.engine import fit as engine
from vpt.engine.rundir import RunDir


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of each of two classes."""
    for number in range(20):
        picture(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def settings(photos: Path, name: str = "run", **values: Any) -> config.Config:
    base = {
        "backbone": "vpt/vit-nano",
        "method": "linear",
        "data": {"name": "folder", "path": str(photos)},
        "train": {"epochs": 2, "batch_size": 8, "lr": 0.1},
        "out": photos.parent / name,
    }
    return config.parse(base | values)


def trained(photos: Path, name: str = "run", **values: Any) -> Path:
    experiment.train(settings(photos, name, **values), progress=False)
    return photos.parent / name


def stopped(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended after its first epoch."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "write_metrics", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(photos)
    return photos.parent / "run"


NEW = r"photos has 1 images that the run did not have: .+new\.png; to leave them out say data\.new=skip"


def test_a_run_is_not_measured_or_gone_on_with_by_images_that_it_did_not_have(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(photos, monkeypatch)
    picture(photos / "cat" / "a_new.png", 99)
    with pytest.raises(VptError, match=NEW):
        experiment.train(settings(photos), resume=True, progress=False)
    # With them left out it comes to what it would have come to.
    skip = {"name": "folder", "path": str(photos), "new": "skip"}
    experiment.train(settings(photos, data=skip), resume=True, progress=False)
    assert "1 images that the run did not have" in capsys.readouterr().err
    (photos / "cat" / "a_new.png").unlink()
    whole = trained(photos, "whole")
    assert (run / "best/vpt.safetensors").read_bytes() == (whole / "best/vpt.safetensors").read_bytes()
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, whole)]
    assert results[0]["test"] == results[1]["test"]
    assert experiment.measure(run)["top1"] == results[0]["test"]["top1"]

    picture(photos / "cat" / "a_new.png", 99)
    with pytest.raises(VptError, match=NEW):
        experiment.measure(whole)
    assert experiment.measure(whole, overrides=["data.new=skip"])["top1"] == results[1]["test"]["top1"]
    (photos / "cat" / "0.png").rename(photos / "cat" / "moved.png")
    with pytest.raises(VptError, match="images of the run are no longer in"):
        experiment.measure(whole)


def test_finished_runs_of_a_table_are_read_only_while_their_images_are_there(photos: Path) -> None:
    asked = settings(photos, "table", compare={"a": {}})
    table = sweep.compare(asked, progress=False)
    assert sweep.compare(asked, progress=False) == table
    picture(photos / "cat" / "a_new.png", 99)
    with pytest.raises(VptError, match=NEW):
        sweep.compare(asked, progress=False)


def test_images_that_are_read_otherwise_are_the_same_images(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("VPT_CACHE", str(photos.parent / "cache"))
    run, values = trained(photos), {"broken": "skip", "cache": "memory", "new": "skip", "max_pixels": 10**8}
    for key in READING:
        figures = experiment.measure(run, overrides=[f"data.{key}={values.get(key, 'false')}"])
        assert (figures["split"], figures["images"]) == ("test", 4), key


def test_a_run_is_not_tested_on_what_it_has_learned_from_where_its_images_are_dealt_anew(photos: Path) -> None:
    run = trained(photos)
    for override in ("data.split_seed=3", "data.test_fraction=0.4"):
        with pytest.raises(
            VptError, match=r"test images of .*photos dealt so are training or validation images of .*run"
        ):
            experiment.measure(run, overrides=[override])
    # These are other images of the same deal, or asked for by name.
    assert experiment.measure(run, overrides=["data.seed=3"])["images"] == 4
    assert experiment.measure(run, "val", ["data.split_seed=3"])["split"] == "val"


def test_images_of_a_class_that_a_run_knows_are_not_counted_as_unknown(photos: Path) -> None:
    run = trained(photos, data={"name": "folder", "path": str(photos), "test_fraction": 0.2, "shots": 2})
    before = (run / "result.json").read_text()
    strange = photos.parent / "strange"
    picture(strange / "a.png", 90)
    # Another way to the same files; most of them were not drawn for the run.
    (strange / "b").symlink_to(photos)
    for folder, count in ((photos, "20 of the 20"), (photos / "dog", "10 of the 10"), (strange, "20 of the 21")):
        with pytest.raises(VptError, match=rf"^{count} images to be taken for unknown are of classes .* first .*\.png"):
            beyond.unknown(run, folder)
    assert (run / "result.json").read_text() == before
    (strange / "b").unlink()
    assert beyond.unknown(run, strange)["unknown"] == 1


def test_images_of_classes_that_were_left_out_are_unknown(photos: Path) -> None:
    for number in range(20):
        picture(photos / ("elk", "fox")[number % 2] / f"{number}.png", 50 + number)
    data = {"name": "folder", "path": str(photos), "test_fraction": 0.2, "classes_subset": "base"}
    run = trained(photos, data=data)
    assert beyond.unknown(run, photos / "fox")["unknown"] == 10
    with pytest.raises(VptError, match=r"^20 of the 40 images"):
        beyond.unknown(run, photos)


def test_all_of_another_folder_is_measured_and_counted(photos: Path) -> None:
    run = trained(photos)
    for number in range(6):
        picture(photos.parent / "others" / ("cat", "dog")[number % 2] / f"{number}.png", 50 + number)
    others = [f"data.path={photos.parent / 'others'}"]
    figures = experiment.measure(run, overrides=others)
    assert (figures["split"], figures["images"]) == ("all", 6)
    assert experiment.measure(run, "test", others)["images"] < 6
    own = experiment.measure(run)
    assert (own["split"], own["images"]) == ("test", 4)
    # The same folder by another name is no other data.
    assert experiment.measure(run, overrides=[f"data.path={photos.parent}/./photos"])["split"] == "test"
    assert experiment.measure(run, "all")["images"] == 20


def test_classes_of_other_data_are_found_by_name_among_those_of_a_head(photos: Path) -> None:
    run = trained(photos)
    for number in range(4):
        picture(photos.parent / "dogs" / "dog" / f"{number}.png", 50 + number)
    figures = experiment.measure(run, overrides=[f"data.path={photos.parent / 'dogs'}"])
    assert figures["images"] == 4
    assert figures["mean_per_class"] == figures["top1"]
    picture(photos.parent / "dogs" / "cow" / "0.png", 60)
    with pytest.raises(VptError, match="the data has the class 'cow' and the model does not know it, but cat, dog"):
        experiment.measure(run, overrides=[f"data.path={photos.parent / 'dogs'}"])


def test_a_finished_run_is_not_made_twice(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings(photos)
    model, result = experiment.train(asked, test=False, progress=False)
    assert result["test"] == {}
    monkeypatch.setattr(engine, "_train", None)
    again, tested = experiment.train(asked, resume=True, progress=False)
    assert tested == {**result, **{key: tested[key] for key in ("test", "confusion", "trust")}}
    assert tested["test"]["top1"] == experiment.measure(asked.out or "")["top1"]
    assert torch.equal(model.head.weight, again.head.weight)
    monkeypatch.setattr(experiment, "evaluate", None)
    assert experiment.train(asked, resume=True, progress=False)[1] == tested


def test_more_epochs_are_refused_and_a_run_may_begin_with_what_another_has_learned(photos: Path) -> None:
    run = trained(photos)
    longer = {"train": {"epochs": 3, "batch_size": 8, "lr": 0.1}}
    with pytest.raises(VptError, match=rf"train\.epochs was 2 and is 3.+ with start={run} to go on from what it has"):
        experiment.train(settings(photos, **longer), resume=True, progress=False)
    still = {"train": {"epochs": 1, "batch_size": 8, "lr": 0.0}}
    model, _ = experiment.train(settings(photos, "further", start=str(run), **still), progress=False)
    learned = experiment.load_run(run)
    assert torch.equal(model.head.weight, learned.head.weight)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"method": "vpt-deep"}, "its method is another (linear)"),
        ({"data": {"name": "digits"}}, "its classes is another (('cat', 'dog'))"),
        ({"start": "nowhere"}, "there is no folder 'nowhere'"),
    ],
)
def test_a_run_begins_with_nothing_that_does_not_fit(values: dict[str, Any], sentence: str, photos: Path) -> None:
    run = trained(photos)
    with pytest.raises(VptError) as error:
        trained(photos, "further", **{"start": str(run), **values})
    assert sentence in str(error.value)
    assert not (photos.parent / "further").exists()


@pytest.mark.parametrize(
    "label", ["../escape", "..", "/tmp/x", "a/../../b", "~/x", "a\\..\\..\\b", "trials", " ", ".x"]
)
def test_labels_stay_below_the_folder_of_the_table(label: str, photos: Path) -> None:
    with pytest.raises(VptError, match="compare has the label"):
        sweep.compare(settings(photos, "table", compare={label: {}}), progress=False)
    assert not (photos.parent / "table").exists()


def test_a_run_keeps_its_weights_by_their_digest_and_not_by_their_place(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    small = {"patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2, "img_size": 32}
    mine, theirs = tmp_path / "mine/w.safetensors", tmp_path / "theirs/v.safetensors"
    for path in (mine, theirs):
        path.parent.mkdir()
    save_file(timm.create_model("vit_tiny_patch16_224", **small).state_dict(), mine)
    backbone = {"name": "timm/vit_tiny_patch16_224", **small, "weights": str(mine)}
    run = trained(photos, backbone=backbone, train={"epochs": 1, "batch_size": 8})
    kept = config.read(run / "config.yaml")
    assert kept.backbone["weights"] == {"name": "w.safetensors", "digest": of_file(mine)}
    assert str(mine) not in (run / "config.yaml").read_text()
    # Its own config is one that can be run, and so is one that names the file elsewhere.
    moved = settings(photos, backbone=backbone | {"weights": str(theirs)}, train={"epochs": 1, "batch_size": 8})
    mine.rename(theirs)
    experiment.train(moved, resume=True, progress=False)
    experiment.train(kept.model_copy(update={"out": photos.parent / "again"}), progress=False)
    theirs.rename(mine)
    with pytest.raises(VptError, match=r"weights of the file 'w.safetensors' \(SHA-256 \w+\) are not found here"):
        experiment.train(kept.model_copy(update={"out": photos.parent / "third"}), progress=False)
    with pytest.raises(VptError, match=r"backbone.weights will not do: name a file, or give name and digest as"):
        trained(photos, "fourth", backbone=backbone | {"weights": {"name": "w"}})
    save_file(timm.create_model("vit_tiny_patch16_224", **small).state_dict(), mine)
    with pytest.raises(VptError, match=r"was run with another config \(backbone\.weights\.digest was"):
        experiment.train(settings(photos, backbone=backbone, train=moved.train), resume=True, progress=False)


def test_a_run_that_has_lost_its_config_is_not_gone_on_with(photos: Path) -> None:
    run = trained(photos)
    (run / "config.yaml").unlink()
    with pytest.raises(VptError, match=r"has lost its config\.yaml, which says what it was run with"):
        experiment.train(settings(photos), resume=True, progress=False)
