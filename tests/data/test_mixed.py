"""Several sources of captioned images as one."""

from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.data.replicas import class_folder, files, flickr8k, refused, sizes


def test_several_sources_together(tmp_path: Path) -> None:
    """Splits of the parts are kept; none is made unless a part asks."""
    sources = [
        {"name": "flickr8k", "path": str(flickr8k(tmp_path / "f")), "repeat": 2},
        {"name": "classes", "data": {"name": "folder", "path": str(class_folder(tmp_path / "c"))}, "repeat": 0.5},
        {"name": "scenes", "train": 5, "val": 0, "test": 0},
    ]
    data = vpt.data.load("mixed", sources=sources)
    assert sizes(data) == {"train": 2 * 4 + 10 + 5, "val": 1, "test": 2}
    assert files(data)[:8] == [f"{i}_x.jpg" for i in range(4)] * 2
    assert data.train.captions[-1] == data.train.parts[2].captions[-1]
    assert data.train.image(22).size == (64, 64)
    assert data.facts() == vpt.data.load("mixed", sources=sources).facts()


def test_one_file_that_a_source_trains_on_and_another_tests_on_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flickr8k(tmp_path)
    (tmp_path / "t.csv").write_text("image,caption,split\nImages/5_x.jpg,a dog,train\nImages/4_x.jpg,a dog,train\n")
    table = {"name": "captions", "path": str(tmp_path / "t.csv"), "repeat": 2}
    vpt.data.load("mixed", sources=[{"name": "flickr8k", "path": str(tmp_path)}, table])
    said = capsys.readouterr().err
    assert "1 test images are the same files as training images, first" in said
    assert "Images/5_x.jpg: keep it in one." in said
    assert "1 validation images are the same files as training images, first" in said


def test_splits_of_a_mixture_are_dealt_without_sharing_what_is_repeated(tmp_path: Path) -> None:
    sources = [{"name": "folder_captions", "path": str(class_folder(tmp_path)), "repeat": 3}]
    data = vpt.data.load("mixed", sources=sources)
    names = {split: {data.splits()[split].name(i) for i in range(n)} for split, n in sizes(data).items()}
    assert sizes(data) == {"train": 42, "val": 3, "test": 3}
    assert {split: len(of_split) for split, of_split in names.items()} == {"train": 14, "val": 3, "test": 3}
    assert len(set().union(*names.values())) == 20


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "data.sources is empty"),
        ([{"path": "x"}], "data.sources[0] has no name"),
        ([{"name": "scenes"}, {"name": "scene"}], "there is no data set 'scene': did you mean 'scenes'?"),
        ([{"name": "scenes", "sde": 3}], "data.sources[0].sde is no option of data.sources[0]: did you mean 'side'?"),
        ([{"name": "scenes", "side": "x"}], "data.sources[0].side='x' will not do"),
        ([{"name": "scenes", "repeat": 0}], "data.sources[0].repeat=0 will not do"),
        ([{"name": "digits"}], "write {name: classes, data: {name: digits, …}}"),
        ([{"name": "classes", "data": {"name": "scenes"}}], "data.data.name=scenes has captions of its own"),
    ],
)
def test_a_mixture_that_is_wrong(sources: list[dict[str, Any]], sentence: str) -> None:
    assert sentence in refused("mixed", sources=sources)
