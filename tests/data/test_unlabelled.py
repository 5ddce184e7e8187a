"""Images without labels: which they are, who may learn from them, and that they stay those of the run."""

from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.data.replicas import class_folder, folder_of, picture
from vpt import VptError, config, experiment
from vpt.data import load_again
from vpt.data.base import NO_LABEL
from vpt.data.members import Members, members
from vpt.data.unlabelled import learned_from
from vpt.engine.results import read_result


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of ten images, and beside them six without a class, two of them in a folder."""
    for index in range(4):
        picture(tmp_path / "others" / f"{index}.png", 100 + index)
    folder_of(tmp_path / "others", {"deeper": 2})
    return class_folder(tmp_path / "photos")


def names(samples: Any) -> list[str]:
    return [Path(samples.name(index)).name for index in range(len(samples))]


def test_they_are_learned_from_behind_the_training_images_and_are_in_no_split(photos: Path) -> None:
    data = vpt.data.load("folder", path=photos, unlabelled=photos.parent / "others", check=False)
    assert names(data.unlabelled) == ["0.png", "1.png", "2.png", "3.png", "00.png", "01.png"]
    assert set(data.unlabelled.labels) == {NO_LABEL}
    found = learned_from(data)
    assert found.labels == [*data.train.labels, *[NO_LABEL] * 6]
    assert found.image(len(found) - 1).size == (8, 8)
    assert sum(map(len, data.splits().values())) == 20
    assert data.facts()["sizes"]["unlabelled"] == 6
    without = vpt.data.load("folder", path=photos, check=False)
    assert learned_from(without) is without.train


def test_what_few_shots_leave_of_a_folder_may_be_learned_from_without_labels(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos.parent / "link").symlink_to(photos)
    for folder in (photos, photos.parent / "link"):
        data = vpt.data.load("folder", path=photos, shots=2, unlabelled=folder, check=False)
        known = {name for part in data.splits().values() for name in names_below(part)}
        assert not known & set(names_below(data.unlabelled))
        assert len(known) + len(data.unlabelled) == 20
        assert f"{len(known)} of 20 images of {folder} are in the splits" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"shots": 1}])
def test_a_test_image_of_a_class_that_is_left_out_is_not_learned_from(
    options: dict[str, Any], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"path": photos, "check": False, **options}
    parts = {half: vpt.data.load("folder", classes_subset=half, **asked) for half in ("base", "new")}
    data = vpt.data.load("folder", classes_subset="base", unlabelled=photos, **asked)
    learned = set(names_below(learned_from(data)))
    tested = {name for part in parts.values() for name in names_below(part.test)}
    assert {Path(name).parent.name for name in tested} == {"owl", "tree_frog"}
    assert not learned & tested
    # Images of both halves are learned from otherwise, as the method is published.
    assert set(names_below(parts["new"].train)) <= learned
    said = capsys.readouterr().err
    assert (
        f"{len(parts['new'].test)} test images of {photos}'s other classes, in {photos}, are not learned from" in said
    )
    kept = Members.model_validate_json(members(data).model_dump_json())
    again = load_again("folder", kept, classes_subset="base", unlabelled=photos, **asked)
    assert again.facts()["digests"] == data.facts()["digests"]
    picture(photos / "owl" / "new.png", 7)
    with pytest.raises(VptError, match=r"has 1 images that the run did not have"):
        load_again("folder", kept, classes_subset="base", unlabelled=photos, **asked)


def names_below(samples: Any) -> list[str]:
    return ["/".join(Path(samples.name(index)).parts[-2:]) for index in range(len(samples))]


def test_broken_ones_stop_a_run_or_are_skipped_and_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = photos.parent / "others"
    (others / "5.png").write_bytes(b"no picture")
    (others / "notes.txt").write_text("no picture")
    with pytest.raises(VptError, match=r"1 images cannot be decoded: .*5\.png; mend them, or say data\.broken=skip"):
        vpt.data.load("folder", path=photos, unlabelled=others)
    data = vpt.data.load("folder", path=photos, unlabelled=others, broken="skip")
    assert (len(data.unlabelled), [Path(name).name for name in data.skipped]) == (6, ["5.png"])
    assert "1 files of" in capsys.readouterr().err
    # A run that has skipped it is gone on with.
    again = load_again("folder", members(data), path=photos, unlabelled=others, broken="skip")
    assert again.facts() == data.facts()
    for image in others.rglob("*.png"):
        image.write_bytes(b"no picture")
    with pytest.raises(VptError, match=r"none of the 7 images of data\.unlabelled=.* can be decoded"):
        vpt.data.load("folder", path=photos, unlabelled=others, broken="skip")


def test_a_copy_of_a_test_image_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vpt.data.load("folder", path=photos)
    capsys.readouterr()
    (photos.parent / "others/copy.png").write_bytes(Path(data.test.name(0)).read_bytes())
    vpt.data.load("folder", path=photos, unlabelled=photos.parent / "others")
    assert "unlabelled images are the same files as test images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("photos", r"data\.unlabelled=.*photos has no image that .*photos has not with its label: leave it out"),
        ("empty", r"data\.unlabelled=.*empty has no image that"),
        ("others/0.png", r"data\.unlabelled=.*0\.png is a file: give a folder of images"),
        ("nowhere", r"nowhere' does not exist"),
    ],
)
def test_folders_that_will_not_do(folder: str, sentence: str, photos: Path) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(VptError, match=sentence):
        vpt.data.load("folder", path=photos, unlabelled=photos.parent / folder, check=False)


def test_the_folder_may_be_a_text_as_that_of_the_data_set_may_be(photos: Path) -> None:
    data = vpt.data.load("folder", path=str(photos), unlabelled=str(photos.parent / "others"), check=False)
    assert len(data.unlabelled) == 6
    with pytest.raises(VptError, match=r"unlabelled=5 "):
        vpt.data.load("folder", path=str(photos), unlabelled=5)


def test_captions_have_none() -> None:
    with pytest.raises(VptError, match=r"data\.unlabelled goes with labelled images, and .* has captions"):
        vpt.data.load("scenes", train=2, val=1, test=1, unlabelled=Path("others"))


def test_a_run_keeps_those_that_it_had(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = photos.parent / "others"
    data = vpt.data.load("folder", path=photos, unlabelled=others, check=False)
    kept = Members.model_validate_json(members(data).model_dump_json())
    others.rename(photos.parent / "elsewhere")
    others = photos.parent / "elsewhere"
    again: dict[str, Any] = {"name": "folder", "kept": kept, "path": photos, "check": False}
    assert names(load_again(**again, unlabelled=others).unlabelled) == names(data.unlabelled)
    # A model is measured without them.
    assert load_again(**again).unlabelled is None
    picture(others / "new.png", 7)
    with pytest.raises(VptError, match=r"elsewhere has 1 images that the run did not have: .*new\.png; to leave"):
        load_again(**again, unlabelled=others)
    assert names(load_again(**again, unlabelled=others, new="skip").unlabelled) == names(data.unlabelled)
    assert "has 1 images that the run did not have" in capsys.readouterr().err
    (others / "2.png").unlink()
    with pytest.raises(VptError, match=r"1 images of the run are no longer in .*elsewhere: 2\.png; put them back"):
        load_again(**again, unlabelled=others, new="skip")


def settings(photos: Path, method: Any, out: str, **data: Any) -> config.Config:
    values = {
        "backbone": "vpt/clip-nano",
        "method": method,
        "data": {"name": "folder", "path": str(photos), "check": False, **data},
        "train": {"epochs": 2, "lr": 0.01, "batch_size": 8},
        "out": str(photos.parent / out),
    }
    return config.parse(values)


def test_a_student_learns_from_them_and_a_method_that_needs_labels_refuses_them(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = str(photos.parent / "others")
    experiment.train(settings(photos, "zero-shot", "teacher"), progress=False)
    taught = settings(photos, {"name": "promptkd", "teacher": str(photos.parent / "teacher")}, "run", unlabelled=others)
    capsys.readouterr()
    _, result = experiment.train(taught)
    sizes = result["data"]["sizes"]
    assert sizes["unlabelled"] == 6
    log = capsys.readouterr().err
    assert "top-1" in log
    # The epochs are longer by them, and a run is measured and gone on with where they are gone.
    (row, *_) = (photos.parent / "run/metrics.csv").read_text().splitlines()[1:]
    steps = dict(
        zip((photos.parent / "run/metrics.csv").read_text().splitlines()[0].split(","), row.split(","), strict=True)
    )
    assert int(steps["step"]) == -(-(sizes["train"] + 6) // 8)
    (photos.parent / "others").rename(photos.parent / "gone")
    assert experiment.measure(photos.parent / "run")["images"] == sizes["test"]
    assert read_result(photos.parent / "run/result.json")["data"]["sizes"] == sizes
    with pytest.raises(VptError, match=r"has no labels to measure by"):
        experiment.measure(photos.parent / "run", overrides=["data.unlabelled=gone"])
    with pytest.raises(VptError, match=r"data\.unlabelled=.*: coop learns from labels; leave it out, or take"):
        experiment.train(settings(photos, "coop", "other", unlabelled=others), progress=False)


def test_a_dataset_of_ones_own_says_minus_one_where_labels_are_not_looked_at(photos: Path) -> None:
    data = vpt.data.load("folder", path=photos, check=False)
    pairs = [(data.train.image(index), NO_LABEL) for index in range(4)]
    quiet: dict[str, Any] = {"epochs": 1, "batch_size": 4, "lr": 0.01, "progress": False}
    student = vpt.create("vpt/clip-nano", "promptkd", classes=data.classes)
    student.teach(vpt.create("vpt/clip-nano", "zero-shot", classes=data.classes))
    (row,) = vpt.fit(student, pairs, **quiet).history
    assert "train/top1" not in row
    with pytest.raises(VptError, match="item 0 has the label -1"):
        vpt.fit(vpt.create("vpt/clip-nano", "coop", classes=data.classes), pairs, **quiet)
    with pytest.raises(VptError, match="item 0 has the label -1"):
        vpt.fit(student, pairs, pairs, **quiet)
