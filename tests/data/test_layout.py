"""Folders in folders: what is a split, what a class, and what only repeats the folder that it lies in."""

from pathlib import Path

import pytest

import vpt
from tests.data.replicas import folder_of, refused, sizes


@pytest.mark.parametrize("names", [("training_set", "test_set"), ("train_set", "val_set"), ("trainset", "Test-Set")])
@pytest.mark.parametrize("nested", [False, True])
def test_sets_called_so_are_splits_also_where_each_lies_in_itself(
    names: tuple[str, str], nested: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in zip(names, (10, 4), strict=True):
        folder_of(tmp_path / name / (name if nested else "."), {"cats": count, "dogs": count})
    data = vpt.data.load("folder", path=tmp_path, val_fraction=0)
    assert data.classes == ("cats", "dogs")
    assert list(sizes(data).values()) == [20, 8]
    said = capsys.readouterr().err
    assert (f"{names[0]} holds no other folder than {names[0]}: what is in that is read in its place" in said) == nested


def test_a_folder_that_lies_in_one_of_its_name_is_that_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path / "flowers" / "Flowers", {"daisy": 4, "rose": 4})
    (tmp_path / "flowers" / "notes.txt").write_text("x")
    data = vpt.data.load("folder", path=tmp_path / "flowers", val_fraction=0, test_fraction=0)
    assert (data.classes, sizes(data)) == (("daisy", "rose"), {"train": 8})
    said = capsys.readouterr().err
    assert "holds no other folder than Flowers" in said
    assert "1 files beside the folders in" in said
    folder_of(tmp_path / "photos", {"photos": 4})
    assert "has images of 1 classes" in refused("folder", path=tmp_path / "photos")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "names", [("seg_train", "seg_test"), ("carsTrain", "carsTest"), ("train2017", "val2017"), ("fold 1", "fold 2")]
)
def test_classes_that_look_like_splits_are_asked_about(names: tuple[str, str], nested: bool, tmp_path: Path) -> None:
    for name in names:
        # The classes are nearly the same in both.
        more = {} if name == names[1] else {"street": 1}
        folder_of(tmp_path / name / (name if nested else "."), {"forest": 1, "sea": 1, **more})
    folder_of(tmp_path / "seg_pred", {"seg_pred" if nested else ".": 1})
    said = refused("folder", path=tmp_path)
    assert f"{', '.join(sorted(names))} in {tmp_path} hold folders of images of the same names, forest, sea, st" in said
    assert "they look like splits and not like classes: rename them to train and test, or let data.path lead in" in said
    for folder, name in zip(names, ("train", "test"), strict=True):
        (tmp_path / folder).rename(tmp_path / name)
    data = vpt.data.load("folder", path=tmp_path, val_fraction=0)
    assert (data.classes, sizes(data)) == (("forest", "sea", "street"), {"train": 3, "test": 2})


@pytest.mark.parametrize(
    "layout",
    [
        {"ant": ("front", "side"), "bee": ("front", "side")},
        {"strain_a": ("plate 1", "plate 2"), "strain_b": ("plate 1", "plate 2"), "contest": ("plate 1", "plate 2")},
        {"steam_train": ("front", "side"), "bus": ("north", "south"), "car": ("a", "b")},
        {"steam_train": ("front", "side"), "bus": (".",), "car": (".",)},
        {"test_a": ("1",), "test_b": ("1",)},
    ],
)
def test_classes_that_hold_the_same_folders_are_classes_still(
    layout: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    for name, inner in layout.items():
        folder_of(tmp_path / name, dict.fromkeys(inner, 2))
    assert vpt.data.load("folder", path=tmp_path, val_fraction=0, test_fraction=0).classes == tuple(sorted(layout))


def test_splits_below_the_classes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ant", "bee"):
        folder_of(tmp_path / name, {"train": 4, "Test": 2})
    assert vpt.data.load("folder", path=tmp_path, val_fraction=0, test_fraction=0).classes == ("ant", "bee")
    assert "2 classes in" in (said := capsys.readouterr().err)
    assert "hold splits, first ant, which are read as one" in said
