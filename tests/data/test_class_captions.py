"""Captions that are made of class names."""

from pathlib import Path

import pytest

import vpt
from tests.data.replicas import WHOLE, class_folder, refused, sizes
from vpt.data.base import Files
from vpt.data.pairs import FilePairs, class_captions


def test_a_folder_of_classes_with_captions_from_their_names(tmp_path: Path) -> None:
    class_folder(tmp_path / "train")
    class_folder(tmp_path / "test", 3)
    templates = ["a {}.", "one {} outdoors"]
    data = vpt.data.load("folder_captions", path=tmp_path, templates=templates, val_fraction=0)
    assert sizes(data) == {"train": 20, "test": 6}
    assert data.train.captions[0] == ("a owl.", "one owl outdoors")
    assert data.train.captions[19] == ("a tree frog.", "one tree frog outdoors")


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place_for_the_name(template: str, tmp_path: Path) -> None:
    class_folder(tmp_path)
    assert "write one {}" in refused("folder_captions", path=tmp_path, templates=[template])


def test_only_the_training_images_of_a_labelled_set_become_pairs(tmp_path: Path) -> None:
    class_folder(tmp_path / "train")
    class_folder(tmp_path / "val", 3)
    class_folder(tmp_path / "test", 3)
    data = vpt.data.load("classes", data={"name": "folder", "path": str(tmp_path), "shots": 2}, **WHOLE)
    assert sizes(data) == {"train": 4}
    assert data.train.captions[0] == ("a photo of a owl.",)
    assert all("/train/" in data.train.name(i) for i in range(4))


def test_labelled_images_in_memory_with_their_own_template() -> None:
    data = vpt.data.load("classes", data={"name": "digits"})
    assert sum(sizes(data).values()) == 1797
    named = dict(zip(data.test.samples.labels, data.test.captions, strict=True))
    assert named[0] == ("the digit zero.",)
    assert named[9] == ("the digit nine.",)


def test_labelled_files_stay_files() -> None:
    assert isinstance(class_captions(Files([Path("a.png")], [0]), ["a"], ["{}"]), FilePairs)
