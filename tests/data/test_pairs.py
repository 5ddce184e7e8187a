"""Images with captions as people have them on disk, each source on a tiny replica of its layout."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vpt
from vpt import VptError
from vpt.data.base import Arrays, Files
from vpt.data.pairs import FilePairs, JoinedPairs, PairSet, class_captions
from vpt.data.split import dealt

WHOLE = {"val_fraction": 0, "test_fraction": 0}


def picture(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


def sizes(data: PairSet) -> dict[str, int]:
    return {name: len(pairs) for name, pairs in data.splits().items()}


def files(data: PairSet, split: str = "train") -> list[str]:
    pairs = data.splits()[split]
    return [Path(pairs.name(i)).name for i in range(len(pairs))]


def refused(name: str, **options: Any) -> str:
    with pytest.raises(VptError) as error:
        vpt.data.load(name, **options)
    return str(error.value)


# ---- tables


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
    data = vpt.data.load("captions", path=path, seed=1)
    assert sizes(data) == {"train": 14, "val": 3, "test": 3}
    assert len({name for split in data.splits() for name in files(data, split)}) == 20
    assert data.facts()["captions"] == {"train": 70, "val": 15, "test": 15}
    assert data.facts()["digests"] == vpt.data.load("captions", path=path, seed=1).facts()["digests"]
    assert data.facts()["digests"] != vpt.data.load("captions", path=path, seed=2).facts()["digests"]


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


# ---- published sets


def flickr8k(root: Path, captions: str = "captions.txt", images: str = "Images", lists: bool = True) -> Path:
    for i in range(8):
        picture(root / images / f"{i}_x.jpg", i)
    rows = [(f"{i}_x.jpg", j, f"A dog , number {i} .") for i in range(8) for j in range(5)]
    text = {
        "captions.txt": "image,caption\n" + "".join(f'{i},"{c}"\n' for i, _, c in rows),
        "Flickr8k.token.txt": "".join(f"{i}#{j}\t{c}\n" for i, j, c in rows),
        "results.csv": "image_name| comment_number| comment\n" + "".join(f"{i}| {j}| {c}\n" for i, j, c in rows),
    }[captions]
    (root / captions).write_text(text)
    if lists:
        for split, of_split in (("train", range(4)), ("dev", [4]), ("test", [5, 6])):
            (root / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{i}_x.jpg\n" for i in of_split))
    return root


@pytest.mark.parametrize("captions", ["captions.txt", "Flickr8k.token.txt", "results.csv"])
@pytest.mark.parametrize("images", ["Images", "Flicker8k_Dataset", "."])
def test_flickr8k_in_its_official_splits(captions: str, images: str, tmp_path: Path) -> None:
    """And an image that no list names is left out."""
    data = vpt.data.load("flickr8k", path=flickr8k(tmp_path, captions, images))
    assert sizes(data) == {"train": 4, "val": 1, "test": 2}
    assert files(data, "test") == ["5_x.jpg", "6_x.jpg"]
    assert data.test.captions[0] == ("A dog , number 5 .",) * 5


def test_flickr30k_with_lists_of_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    root = flickr8k(tmp_path / "flickr30k", "results.csv", "flickr30k-images", lists=False)
    (root / "test.txt").write_text("6_x\n7_x\n")
    assert sizes(vpt.data.load("flickr30k", val_fraction=0)) == {"train": 6, "test": 2}


def test_the_bad_line_of_flickr30ks_spreadsheet_is_read(tmp_path: Path) -> None:
    root = flickr8k(tmp_path, "results.csv", lists=False)
    (root / "results.csv").write_text((root / "results.csv").read_text().replace("| 4| A", "| 4   A"))
    data = vpt.data.load("flickr30k", path=root, **WHOLE)
    assert data.train.captions[0] == ("A dog , number 0 .",) * 5


def test_flickr_that_is_not_there_or_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    assert "there is no folder" in refused("flickr8k")
    root = flickr8k(tmp_path / "flickr8k", lists=False)
    assert "holds no caption.txt: did you mean 'captions.txt'?" in refused("flickr8k", captions="caption.txt")
    (root / "Images" / "3_x.jpg").unlink()
    assert "1 of the 8 images of" in refused("flickr8k")
    (root / "captions.txt").write_text("1_x.jpg A dog\n")
    assert "captions.txt, line 1 is not image#number, a tab and a caption: '1_x.jpg A dog'" in refused("flickr8k")


def karpathy(root: Path, filepath: bool = True) -> Path:
    images = []
    for i, split in enumerate(["train", "restval", "val", "test", "restval"]):
        folder = "train2014" if split == "train" else "val2014"
        picture(root / (folder if filepath else "images") / f"{i}.jpg", i)
        image = {"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"{i} {j}"} for j in range(5)]}
        images.append(image | ({"filepath": folder} if filepath else {}))
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root / "dataset_coco.json"


def test_karpathys_splits(tmp_path: Path) -> None:
    data = vpt.data.load("karpathy", path=karpathy(tmp_path))
    assert sizes(data) == {"train": 3, "val": 1, "test": 1}
    assert data.train.captions[1] == ("1 0", "1 1", "1 2", "1 3", "1 4")
    assert sizes(vpt.data.load("karpathy", path=karpathy(tmp_path), restval=False))["train"] == 1
    assert sizes(vpt.data.load("karpathy", path=karpathy(tmp_path / "flickr", filepath=False)))["train"] == 3


def test_one_of_karpathys_splits_without_the_images_of_the_others(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    (tmp_path / "train2014" / "0.jpg").unlink()
    assert "1 of the 5 images of" in refused("karpathy", path=path)
    assert sizes(vpt.data.load("karpathy", path=path, splits=["test"])) == {"test": 1}


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": [{"split": "train"}]}', '{"images": [{"split": "dev"}]}'])
def test_a_file_that_is_none_of_karpathys(text: str, tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(text)
    assert "d.json is no dataset_*.json of Karpathy's" in refused("karpathy", path=tmp_path / "d.json")


def coco(root: Path, year: int = 2017, folder: str = ".") -> Path:
    for split, count in (("train", 4), ("val", 2)):
        images = [{"id": 10 * i, "file_name": f"{i:012d}.jpg"} for i in range(count)]
        for image in images:
            picture(root / folder / f"{split}{year}" / str(image["file_name"]))
        notes = [{"image_id": image["id"], "caption": f"{j} "} for j in range(5) for image in images]
        path = root / "annotations" / f"captions_{split}{year}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": notes}))
    return root


@pytest.mark.parametrize(("year", "folder"), [(2014, "."), (2017, "images")])
def test_cocos_captions(year: int, folder: str, tmp_path: Path) -> None:
    data = vpt.data.load("coco_captions", path=coco(tmp_path, year, folder), year=year)
    assert sizes(data) == {"train": 4, "val": 2}
    assert data.val.captions == [("0", "1", "2", "3", "4")] * 2
    assert sizes(vpt.data.load("coco_captions", path=tmp_path, year=year, splits=["val"])) == {"val": 2}


def test_cocos_captions_that_are_not_whole(tmp_path: Path) -> None:
    root = coco(tmp_path)
    assert "there is no" in refused("coco_captions", path=root, year=2014)
    file = root / "annotations" / "captions_val2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": content["annotations"][1:2]}))
    assert "1 of the 22 captions of" in refused("coco_captions", path=root)
    file.write_text(json.dumps({"images": content["images"], "annotations": [{"image_id": 7, "caption": ""}]}))
    assert "captions_val2017.json is no file of COCO's captions (KeyError(7))" in refused("coco_captions", path=root)


# ---- class names


def class_folder(root: Path, count: int = 10) -> Path:
    for name in ("tree_frog", "owl"):
        for i in range(count):
            picture(root / name / f"{i}.png", i)
    return root


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


# ---- tar shards


def shard(path: Path, samples: list[dict[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                entry = tarfile.TarInfo(f"part/{number:06d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


def encoded(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def samples_of(greys: range) -> list[dict[str, bytes]]:
    said = {grey: json.dumps({"caption": [f"grey {grey}", "grey"]}).encode() for grey in greys}
    return [{"json": said[g], "png": encoded(g), "txt": f"grey {g}\n".encode()} for g in greys]


@pytest.mark.parametrize("pattern", ["{000..001}.tar", "*.tar", "."])
def test_tar_shards(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    shard(tmp_path / "cc" / "000.tar", samples_of(range(0, 5)))
    shard(tmp_path / "cc" / "001.tar", samples_of(range(5, 8)))
    data = vpt.data.load("webdataset", path=f"cc/{pattern}", **WHOLE)
    assert data.train.captions == [(f"grey {grey}",) for grey in range(8)]
    assert [int(np.asarray(data.train.image(i))[0, 0, 0]) for i in range(8)] == list(range(8))
    assert data.train.subset([6]).name(0).endswith("cc/001.tar/part/000001.png")


def test_tar_shards_with_captions_in_json(tmp_path: Path) -> None:
    train, test = shard(tmp_path / "a.tar", samples_of(range(9))), shard(tmp_path / "b.tar", samples_of(range(2)))
    data = vpt.data.load("webdataset", path=str(train), test=str(test), caption_key="json", val_fraction=0)
    assert sizes(data) == {"train": 9, "test": 2}
    assert data.train.captions[3] == ("grey 3", "grey")


@pytest.mark.parametrize(
    ("sample", "options", "sentence"),
    [
        ({"png": b"", "text": b"x"}, {}, "part/000000.png has no .txt beside it, but png, text: set data.caption_key"),
        ({"png": b"", "txt": b" \n"}, {}, "1 of the 1 captions of"),
        ({"png": b"", "txt": b" \n"}, {"empty": "skip"}, "holds no images with captions"),
        ({"png": b"", "txt": b"\xff"}, {}, "000000.txt is no txt in UTF-8"),
        ({"png": b"", "json": b"{"}, {"caption_key": "json"}, "000000.json is no json in UTF-8"),
        ({"png": b"", "json": b'{"text": 1}'}, {"caption_key": "json"}, "no field 'caption', but text: set data.json"),
        ({"png": b"nonsense", "txt": b"x"}, {}, "1 images cannot be decoded"),
        ({"cls": b"3"}, {}, "holds no images with captions"),
    ],
)
def test_a_shard_that_is_wrong(
    sample: dict[str, bytes], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = shard(tmp_path / "a.tar", [sample])
    assert sentence in refused("webdataset", path=str(path), **options)


def test_shards_that_are_not_there_or_compressed(tmp_path: Path) -> None:
    assert "names no .tar file" in refused("webdataset", path=str(tmp_path / "*.tar"))
    path = shard(tmp_path / "a.tar", samples_of(range(2)), "w:gz")
    assert "is no whole, uncompressed tar file" in refused("webdataset", path=str(path))


# ---- several together


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


# ---- what all have in common


@pytest.mark.parametrize("mixed", [False, True])
def test_broken_images_stop_the_run_or_are_skipped(mixed: bool, tmp_path: Path) -> None:
    root = flickr8k(tmp_path)
    (root / "Images" / "1_x.jpg").write_bytes(b"nonsense")
    source: dict[str, Any] = {"name": "flickr8k", "path": str(root)}
    options = {"name": "mixed", "sources": [source | {"repeat": 2}]} if mixed else source
    assert "cannot be decoded" in refused(**options)
    data = vpt.data.load(**options, broken="skip")
    assert "1_x.jpg" not in files(data)
    assert [Path(name).name for name in data.facts()["skipped"]] == ["1_x.jpg"]


def test_the_same_pairs_have_the_same_digest_wherever_they_lie(tmp_path: Path) -> None:
    first = vpt.data.load("flickr8k", path=flickr8k(tmp_path / "a")).facts()
    second = vpt.data.load("flickr8k", path=flickr8k(tmp_path / "b")).facts()
    assert first == second
    file = tmp_path / "b" / "captions.txt"
    file.write_text(file.read_text().replace("number 0", "no. 0"))
    third = vpt.data.load("flickr8k", path=tmp_path / "b").facts()
    assert third["digests"]["train"] != first["digests"]["train"]
    assert third["digests"]["test"] == first["digests"]["test"]


@given(st.lists(st.integers(0, 8), max_size=20))
def test_a_subset_of_joined_pairs_is_the_pairs_at_its_indices(indices: list[int]) -> None:
    memory = Arrays(np.arange(4, dtype=np.uint8).repeat(12).reshape(4, 2, 2, 3), [0, 1, 0, 1], "grey")
    on_disk = FilePairs([Path(f"{i}.png") for i in range(5)], [[f"file {i}"] for i in range(5)])
    joined = JoinedPairs([class_captions(memory, ["a", "b"], ["{}"]), on_disk])
    chosen = joined.subset(indices)
    assert chosen.captions == [joined.captions[i] for i in indices]
    assert [chosen.name(i) for i in range(len(chosen))] == [joined.name(i) for i in indices]
    assert [chosen.stored(i) for i in range(len(chosen))] == [i >= 4 for i in indices]


def test_labelled_files_stay_files() -> None:
    assert isinstance(class_captions(Files([Path("a.png")], [0]), ["a"], ["{}"]), FilePairs)


@pytest.mark.shared_data
@pytest.mark.skipif(
    not Path(os.environ.get("VPT_DATA", "data"), "flickr8k", "captions.txt").exists(), reason="VPT_DATA lacks flickr8k"
)
def test_the_real_flickr8k() -> None:
    data = vpt.data.load("flickr8k", check=False, val_fraction=0)
    assert sizes(data) == {"train": 6000, "test": 1000}
    assert {len(captions) for pairs in data.splits().values() for captions in pairs.captions} == {5}
    assert data.test.image(0).mode == "RGB"
