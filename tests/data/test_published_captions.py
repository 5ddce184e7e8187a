"""Flickr8k, Flickr30k, Karpathy's splits and COCO's captions, each on a tiny replica of its layout."""

import json
import os
from pathlib import Path

import pytest

import vpt
from tests.data.replicas import WHOLE, files, flickr8k, picture, refused, sizes


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


@pytest.mark.parametrize("value", [None, "", " "])
def test_null_is_an_empty_caption_in_published_files_too(value: str | None, tmp_path: Path) -> None:
    file = karpathy(tmp_path / "k")
    file.write_text(file.read_text().replace('"0 1"', json.dumps(value)))
    assert "1 of the 25 captions of" in (said := refused("karpathy", path=file))
    assert "0.jpg, sentence 2; write them, or say data.empty=skip" in said
    assert vpt.data.load("karpathy", path=file, empty="skip").train.captions[0] == ("0 0", "0 2", "0 3", "0 4")
    root = coco(tmp_path)
    file = root / "annotations" / "captions_train2017.json"
    file.write_text(file.read_text().replace('"1 "', json.dumps(value), 1))
    assert "1 of the 30 captions of" in refused("coco_captions", path=root)
    assert vpt.data.load("coco_captions", path=root, empty="skip").train.captions[0] == ("0", "2", "3", "4")


@pytest.mark.parametrize("value", [5, 0, 1.5, True, ["x"], {"raw": "x"}])
def test_what_is_no_text_is_refused_with_its_place_in_published_files(value: object, tmp_path: Path) -> None:
    file = karpathy(tmp_path / "k")
    file.write_text(file.read_text().replace('"0 1"', json.dumps(value)))
    assert f"dataset_coco.json, 0.jpg, sentence 2 has {value!r} for a caption" in refused("karpathy", path=file)
    root = coco(tmp_path)
    file = root / "annotations" / "captions_train2017.json"
    file.write_text(file.read_text().replace('"1 "', json.dumps(value), 1))
    said = refused("coco_captions", path=root)
    assert f"captions_train2017.json, 000000000000.jpg, caption 2 has {value!r} for a caption: write a text" in said


@pytest.mark.shared_data
@pytest.mark.skipif(
    not Path(os.environ.get("VPT_DATA", "data"), "flickr8k", "captions.txt").exists(), reason="VPT_DATA lacks flickr8k"
)
def test_the_real_flickr8k() -> None:
    data = vpt.data.load("flickr8k", check=False, val_fraction=0)
    assert sizes(data) == {"train": 6000, "test": 1000}
    assert {len(captions) for pairs in data.splits().values() for captions in pairs.captions} == {5}
    assert data.test.image(0).mode == "RGB"
