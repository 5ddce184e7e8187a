"""Folders of domains: which are trained on, which are tested on, and what each of these comes to."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import vpt
from tests.data.replicas import folder_of, sizes
from tests.zoo import vit
from vpt import VptError
from vpt.cli import main
from vpt.data.base import Files, Samples


@pytest.fixture
def pacs(tmp_path: Path) -> Path:
    for domain, count in (("art_painting", 4), ("cartoon", 6), ("photo", 20), ("sketch", 8)):
        folder_of(tmp_path / "pacs" / domain, {"dog": count, "guitar": count})
    return tmp_path / "pacs"


def domains_of(samples: Samples) -> set[str]:
    return {Path(samples.name(i)).parts[-3] for i in range(len(samples))}


def test_one_domain_out(pacs: Path) -> None:
    data = vpt.data.load("domains", path=pacs, test_domains="sketch", val_fraction=0.25)
    assert data.classes == ("dog", "guitar")
    assert domains_of(data.test) == {"sketch"}
    assert domains_of(data.train) | domains_of(data.val) == {"art_painting", "cartoon", "photo"}
    assert sizes(data) == {"train": 44, "val": 16, "test": 16}
    assert data.val.labels.count(0) == data.val.labels.count(1) == 8


def test_train_on_one_and_test_on_the_rest(pacs: Path) -> None:
    data = vpt.data.load("domains", path=pacs, train_domains=["photo"])
    assert domains_of(data.train) == domains_of(data.val) == {"photo"}
    assert {name: len(members) for name, members in data.groups.items()} == {
        "art_painting": 8,
        "cartoon": 12,
        "sketch": 16,
    }
    for name, members in data.groups.items():
        assert domains_of(data.test.subset(members)) == {name}
    assert data.facts()["groups"] == {"art_painting": 8, "cartoon": 12, "sketch": 16}


def test_both_can_be_named(pacs: Path) -> None:
    data = vpt.data.load("domains", path=pacs, train_domains="photo", test_domains=["sketch", "cartoon"])
    assert list(data.groups) == ["sketch", "cartoon"]
    assert domains_of(data.train) == {"photo"}


def test_groups_follow_their_images(pacs: Path) -> None:
    (pacs / "cartoon/guitar/02.png").write_bytes(b"nonsense")
    data = vpt.data.load("domains", path=pacs, train_domains="photo", broken="skip", classes_subset="new")
    assert data.classes == ("guitar",)
    assert {name: len(members) for name, members in data.groups.items()} == {
        "art_painting": 4,
        "cartoon": 5,
        "sketch": 8,
    }
    for name, members in data.groups.items():
        assert domains_of(data.test.subset(members)) == {name}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, r"set data.test_domains or data.train_domains: .* has art_painting, cartoon, photo, sketch"),
        ({"test_domains": "sketches"}, "data.test_domains: .* has no domain 'sketches': did you mean 'sketch'"),
        ({"train_domains": ["photo", "art"]}, "data.train_domains: .* has no domain 'art'"),
        ({"train_domains": "photo", "test_domains": ["photo", "sketch"]}, "photo is in both"),
        ({"test_domains": ["art_painting", "cartoon", "photo", "sketch"]}, "no domain of .* is left to train on"),
        ({"train_domains": ["art_painting", "cartoon", "photo", "sketch"]}, "no domain of .* is left to test on"),
        ({"test_domain": "sketch"}, "data.test_domain is no option of data: did you mean 'test_domains'"),
    ],
)
def test_domains_that_will_not_do(options: dict[str, object], sentence: str, pacs: Path) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.data.load("domains", path=pacs, **options)


def test_folders_that_are_no_domains(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="holds no folders: there must be one for each domain"):
        vpt.data.load("domains", path=tmp_path, test_domains="a")
    folder_of(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(VptError, match=r"b in .*: there must be 2 or more classes"):
        vpt.data.load("domains", path=tmp_path, test_domains="a")


def test_domains_that_hold_splits_are_asked_about(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        for split in ("train", "test"):
            folder_of(tmp_path / domain / split, {"dog": 2, "guitar": 2})
    with pytest.raises(
        VptError, match=r"test, train in .*photo hold folders .* dog, guitar, .*: put the folders of the"
    ):
        vpt.data.load("domains", path=tmp_path, test_domains="sketch")


def test_a_domain_that_lies_in_itself_is_entered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for domain in ("photo", "sketch"):
        folder_of(tmp_path / "pacs" / "pacs" / domain / domain, {"dog": 2, "guitar": 2})
    data = vpt.data.load("domains", path=tmp_path / "pacs", test_domains="sketch", val_fraction=0)
    assert (data.classes, sizes(data)) == (("dog", "guitar"), {"train": 4, "test": 4})
    assert "photo holds no other folder than photo" in capsys.readouterr().err


def test_a_class_that_training_lacks_is_named(pacs: Path) -> None:
    folder_of(pacs / "sketch", {"dogs": 1})
    with pytest.raises(VptError, match="sketch/dogs is a class that the training images lack: did you mean 'dog'"):
        vpt.data.load("domains", path=pacs, test_domains="sketch")


def test_top1_of_groups_is_that_of_their_images_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vpt.attach(vit(), "linear", num_classes=2)
    paths = []
    for index in range(11):
        paths.append(tmp_path / f"{index}.png")
        Image.effect_noise((32, 32), 20 + 20 * index).convert("RGB").save(paths[-1])
    data = Files(paths, [i % 2 for i in range(11)])
    groups = {"first": range(3), "rest": [10, 4, 5, 6, 7, 8, 9, 3]}
    values = vpt.evaluate(model, data, batch_size=4, progress=False, groups=groups)
    for name, members in groups.items():
        alone = vpt.evaluate(model, data.subset(members), progress=False)["top1"]
        assert values[f"top1/{name}"] == pytest.approx(alone)
    assert values["top1"] == pytest.approx((3 * values["top1/first"] + 8 * values["top1/rest"]) / 11)


@pytest.fixture
def experiment(pacs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = pacs.parent
    monkeypatch.chdir(work)
    config = {
        "backbone": "vpt/vit-nano",
        "method": "linear",
        "data": {"name": "domains", "path": "pacs", "train_domains": "photo"},
        "train": {"epochs": 1, "batch_size": 16, "lr": 0.01},
    }
    (work / "pacs.yaml").write_text(yaml.safe_dump(config))
    return work


def test_a_run_reports_every_test_domain(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "pacs.yaml", "--quiet"]) == 0
    assert "sketch (%)" in capsys.readouterr().out
    test = json.loads((experiment / "runs/pacs/result.json").read_text())["test"]
    mean = (8 * test["top1/art_painting"] + 12 * test["top1/cartoon"] + 16 * test["top1/sketch"]) / 36
    assert test["top1"] == pytest.approx(mean)
    assert main(["eval", "runs/pacs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1/sketch"] == test["top1/sketch"]
    assert main(["eval", "runs/pacs", "--split", "val", "--json"]) == 0
    assert "top1/sketch" not in json.loads(capsys.readouterr().out)


def test_a_set_for_testing_only_is_not_trained_on(
    experiment: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPT_DATA", str(experiment))
    folder_of(experiment / "imagenet-adversarial/imagenet-a", {"n01440764": 1, "n01443537": 1})
    (experiment / "imagenet-adversarial/classnames.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    assert main(["train", "pacs.yaml", "data=imagenet_a", "--quiet"]) == 2
    assert "imagenet_a has no training images: train on other data, then" in capsys.readouterr().err
    assert not (experiment / "runs").exists()
