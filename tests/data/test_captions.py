"""Captions in tables of one's own: columns, separators, splits, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpt
from tests.data.replicas import WHOLE, files, picture, refused, sizes
from vpt.data.split import dealt


def captions_table(root: Path, name: str, text: str, images: int = 3) -> Path:
    for i in range(images):
        picture(root / "pictures" / f"{i}.png", i)
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def test_open_clips_own_columns(tmp_path: Path) -> None:
    text = "filepath\ttitle\npictures/0.png\ta red ball\npictures/1.png\ttwo dogs, running\npictures/0.png\ta ball\n"
    data = vpt.data.load("captions", path=captions_table(tmp_path, "t.csv", text), **WHOLE)
    assert data.train.captions == [("a red ball", "a ball"), ("two dogs, running",)]
    assert data.train.image(0).size == (8, 8)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_separator_and_usual_columns(separator: str, tmp_path: Path) -> None:
    rows = ["image?caption", 'pictures/0.png?"a ""b""? c"', "pictures/1.png? d  e "]
    path = captions_table(tmp_path, "t.csv", "\n".join(rows).replace("?", separator))
    data = vpt.data.load("captions", path=path, **WHOLE)
    assert data.train.captions == [(f'a "b"{separator.strip()} c',), ("d e",)]


def test_columns_and_a_separator_of_ones_own(tmp_path: Path) -> None:
    path = captions_table(tmp_path, "t.txt", 'pic:said\n0.png:a "b\n')
    options = {"image_column": "pic", "caption_column": "said", "separator": ":", "quotes": False}
    data = vpt.data.load("captions", path=path, root=tmp_path / "pictures", **options, **WHOLE)
    assert data.train.captions == [('a "b',)]


def test_json_lines_and_lists_with_several_captions_in_a_row(tmp_path: Path) -> None:
    rows = [
        {"file_name": "pictures/0.png", "text": ["a", "line\u2028end"], "split": "train"},
        {"file_name": "pictures/1.png", "text": "c", "split": "validation"},
        {"file_name": "pictures/2.png", "text": "d", "split": "test"},
    ]
    lines = captions_table(tmp_path, "t.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    as_list = captions_table(tmp_path, "t.json", json.dumps(rows))
    for path in (lines, as_list):
        data = vpt.data.load("captions", path=path)
        assert sizes(data) == {"train": 1, "val": 1, "test": 1}
        assert data.train.captions == [("a", "line end")]


def test_a_table_for_each_split(tmp_path: Path) -> None:
    train = captions_table(tmp_path, "a.tsv", "filepath\ttitle\npictures/0.png\tx\npictures/1.png\ty\n")
    test = captions_table(tmp_path, "b.tsv", "filepath\ttitle\npictures/2.png\tz\n")
    assert sizes(vpt.data.load("captions", path=train, test=test, val_fraction=0.5)) == {
        "train": 1,
        "val": 1,
        "test": 1,
    }


def test_splits_that_are_missing_are_dealt_by_image(tmp_path: Path) -> None:
    rows = [f"pictures/{i}.png\tcaption {j} of {i}" for j in range(5) for i in range(20)]
    path = captions_table(tmp_path, "t.tsv", "\n".join(["filepath\ttitle", *rows]), images=20)
    data = vpt.data.load("captions", path=path, split_seed=1)
    assert sizes(data) == {"train": 14, "val": 3, "test": 3}
    assert len({name for split in data.splits() for name in files(data, split)}) == 20
    assert data.facts()["captions"] == {"train": 70, "val": 15, "test": 15}
    assert data.facts()["digests"] == vpt.data.load("captions", path=path, split_seed=1, seed=3).facts()["digests"]
    assert data.facts()["digests"] != vpt.data.load("captions", path=path, split_seed=2).facts()["digests"]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 9))
def test_what_has_one_name_goes_to_one_part(names: list[str], val: float, test: float, seed: int) -> None:
    parts = dealt(names, [val, test], seed)
    named = [{names[i] for i in part} for part in parts]
    assert set().union(*named) == set(names)
    assert sum(map(len, named)) == len(set(names))
    assert sorted(parts[0]) == [i for i, name in enumerate(names) if name in named[0]]
    assert [len(part) for part in parts[1:]] == [len(part) for part in named[1:]]


def test_missing_images_are_counted_and_five_are_named(tmp_path: Path) -> None:
    rows = ["filepath\ttitle", *(f"pictures/{i}.png\tx" for i in range(10))]
    sentence = refused("captions", path=captions_table(tmp_path, "t.tsv", "\n".join(rows)))
    assert "7 of the 10 images of" in sentence
    assert all(f"pictures/{i}.png" in sentence for i in range(3, 8))
    assert "8.png" not in sentence
    assert sentence.endswith("…; put them there, or set data.root.")


def test_empty_captions_stop_or_are_skipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "filepath\ttitle\npictures/0.png\tx\npictures/0.png\t \npictures/1.png\t\npictures/2.png\ty\n"
    path = captions_table(tmp_path, "t.tsv", text)
    assert "2 of the 4 captions of" in refused("captions", path=path)
    assert "are empty, at line 3, line 4; write them, or say data.empty=skip." in refused("captions", path=path)
    data = vpt.data.load("captions", path=path, empty="skip", **WHOLE)
    assert data.train.captions == [("x",), ("y",)]
    assert data.facts()["empty"] == 2
    assert [Path(name).name for name in data.facts()["skipped"]] == ["1.png"]
    assert "2 empty captions skipped, at line 3, line 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "options", "sentence"),
    [
        ("t.csv", "", {}, "t.csv holds no rows"),
        ("t.csv", "image,caption\n", {}, "t.csv holds no rows"),
        ("t.csv", "image,label\n0.png,x\n", {}, "no known column of captions, but 'image', 'label': set data.caption_"),
        ("t.csv", "a,b\n0.png,x\n", {}, "no known column of images, but 'a', 'b': set data.image_column"),
        ("t.csv", "image,titles\n0.png,x\n", {"caption_column": "title"}, "column 'title': did you mean 'titles'?"),
        ("t.csv", "image,title\n0.png,x\n", {"split_column": "part"}, "has no column 'part'"),
        ("t.csv", "image,title\n0.png,x, y\n", {}, "t.csv, line 2 has 3 columns and the first line 2"),
        ("t.csv", 'image,title\n0.png,x\n0.png,"y\n', {}, "t.csv, line 3 has quotation marks that are not closed"),
        ("t.csv", 'image,title\n0.png,"x\ny"\n0.png\n', {}, "t.csv, line 4 has 1 columns and the first line 2"),
        ("t.csv", 'image,title\n0.png,"x\n0.png,y\n', {}, "t.csv, line 2 has quotation marks that are not closed"),
        ("t.csv", 'image,title\n,"x\ny"\n', {}, "t.csv, line 2: the column 'image' is empty"),
        ("t.csv", "image,caption,caption\n0.png,x,y\n", {}, "t.csv has two columns 'caption': rename or remove one"),
        ("t.csv", "image,title\n,x\n", {}, "t.csv, line 2: the column 'image' is empty"),
        ("t.csv", "image,title,split\n0.png,x,dev\n", {}, "line 2: split 'dev' is not one of train, val and test"),
        ("t.csv", "image,title\n0.png,x\n", {"separator": ", "}, "is not one character"),
        ("t.jsonl", '{"image": "0.png", "text": "x"}\n{"image"\n', {}, "t.jsonl, line 2 is no JSON"),
        ("t.jsonl", '{"image": "0.png", "text": "x"}\n{"image": "0.png"}\n', {}, "t.jsonl, line 2 has no 'text'"),
        ("t.jsonl", "[1]\n", {}, "t.jsonl, line 1 is no JSON object"),
        ("t.json", '{"images": []}', {}, "for Karpathy's splits data.name=karpathy"),
        ("t.json", "[", {}, "t.json is no JSON"),
        ("t.csv", "image,title\n0.png,x\n", {"shots": 2}, "data.shots=2 counts images of a class"),
        ("t.csv", "image,title\n0.png,x\n", {"quote": False}, "data.quote is no option of data: did you mean 'quotes'"),
    ],
)
def test_a_table_that_is_wrong(name: str, text: str, options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = captions_table(tmp_path, name, text)
    assert sentence in refused("captions", path=path, root=tmp_path / "pictures", **options)


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    text = "filepath\ttitle\tsplit\npictures/0.png\tx\ttrain\npictures/0.png\ty\ttest\n"
    sentence = refused("captions", path=captions_table(tmp_path, "t.tsv", text))
    assert "0.png is in train and again, at line 3 of" in sentence
