"""Data sets as people have them on disk, each on a tiny replica of its layout."""

import json
from pathlib import Path

import numpy as np
import pytest

import vpt
from tests.data.replicas import folder_of, picture, refused, sizes
from vpt import VptError
from vpt.data.torchvision_sets import names as torchvision_names


def test_one_folder_is_split(tmp_path: Path) -> None:
    data = vpt.data.load("folder", path=folder_of(tmp_path, {"rose": 20, "daisy": 10}))
    assert data.classes == ("daisy", "rose")
    assert sizes(data) == {"train": 20, "val": 5, "test": 5}
    assert data.train.image(0).size == (8, 8)


def test_folders_with_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, count in (("train", 10), ("valid", 3), ("test", 4)):
        folder_of(tmp_path / split, {"a": count, "b": count})
    assert sizes(vpt.data.load("folder", path=tmp_path)) == {"train": 20, "val": 6, "test": 8}


def test_the_names_of_split_folders_may_be_written_otherwise(tmp_path: Path) -> None:
    folder_of(tmp_path / "Training", {"a": 10, "b": 10})
    folder_of(tmp_path / "Testing", {"a": 4, "b": 4})
    data = vpt.data.load("folder", path=tmp_path, val_fraction=0)
    assert data.classes == ("a", "b")
    assert sizes(data) == {"train": 20, "test": 8}
    folder_of(tmp_path / "test", {"a": 4, "b": 4})
    with pytest.raises(VptError, match=r"Testing and .*test are both the test split"):
        vpt.data.load("folder", path=tmp_path)


def test_a_test_split_can_be_asked_for_where_there_is_a_val_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder_of(tmp_path / split, {"a": 10, "b": 10})
    assert sizes(vpt.data.load("folder", path=tmp_path)) == {"train": 20, "val": 20}
    assert sizes(vpt.data.load("folder", path=tmp_path, test_fraction=0.2)) == {"train": 16, "val": 20, "test": 4}


def test_val_comes_from_train_and_a_test_split_is_never_touched(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("test", 4)):
        folder_of(tmp_path / split, {"a": count, "b": count})
    data = vpt.data.load("folder", path=tmp_path, val_fraction=0.1)
    assert sizes(data) == {"train": 36, "val": 4, "test": 8}
    assert all("/test/" in data.test.name(i) for i in range(8))


def test_all_seeds_are_tested_on_the_same_images_where_a_test_split_is_dealt(tmp_path: Path) -> None:
    folder_of(tmp_path / "flat", {"a": 20, "b": 20})
    first, second = (vpt.data.load("folder", path=tmp_path / "flat", seed=seed, shots=5) for seed in (1, 2))
    assert first.facts()["digests"]["test"] == second.facts()["digests"]["test"]
    assert first.facts()["digests"]["train"] != second.facts()["digests"]["train"]
    assert sizes(first) == sizes(second) == {"train": 10, "val": 6, "test": 6}
    for split in ("train", "test"):
        folder_of(tmp_path / "halves" / split, {"a": 20, "b": 20})
    first, second = (vpt.data.load("folder", path=tmp_path / "halves", seed=seed) for seed in (1, 2))
    assert first.facts()["digests"]["val"] != second.facts()["digests"]["val"]


def test_a_path_is_also_looked_for_below_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "flowers", {"a": 8, "b": 8})
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    assert vpt.data.load("folder", path="flowers").classes == ("a", "b")


def test_a_split_that_a_data_set_has_cannot_be_made_again(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder_of(tmp_path / split, {"a": 4, "b": 4})
    with pytest.raises(VptError, match="has a val split of its own: leave it out"):
        vpt.data.load("folder", path=tmp_path, val_fraction=0.5)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({}, "holds no folders of images"),
        ({"a": 3}, "has images of 1 classes: there must be 2 or more"),
        ({"a": 3, "b": 0}, "b holds no images"),
    ],
)
def test_a_folder_that_is_no_data_set(classes: dict[str, int], sentence: str, tmp_path: Path) -> None:
    for name in classes:
        (tmp_path / name).mkdir()
    with pytest.raises(VptError) as error:
        vpt.data.load("folder", path=folder_of(tmp_path, classes))
    assert sentence in str(error.value)


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", {"cat": 3, "dog": 3})
    folder_of(tmp_path / "test", {"cat": 3, "dogs": 3})
    with pytest.raises(VptError, match="dogs is a class that the training images lack: did you mean 'dog'"):
        vpt.data.load("folder", path=tmp_path)


def test_the_same_data_have_the_same_digest_wherever_they_lie(tmp_path: Path) -> None:
    first = vpt.data.load("folder", path=folder_of(tmp_path / "x", {"a": 9, "b": 9})).facts()
    second = vpt.data.load("folder", path=folder_of(tmp_path / "y", {"a": 9, "b": 9})).facts()
    third = vpt.data.load("folder", path=tmp_path / "y", split_seed=1).facts()
    assert first["digests"] == second["digests"] != third["digests"]


def csv_table(root: Path, separator: str, rows: int = 12, split: bool = False) -> Path:
    lines = [separator.join(["path", "label"] + ["split"] * split)]
    for index in range(rows):
        picture(root / "images" / f"{index} x.png", index)
        parts = [f"images/{index} x.png", "ant" if index % 2 else "bee"]
        lines.append(separator.join(parts + [["train", "train", "val", "test"][index // 2 % 4]] * split))
    path = root / ("table.tsv" if separator == "\t" else "table.csv")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_with_any_separator(separator: str, tmp_path: Path) -> None:
    data = vpt.data.load("table", path=csv_table(tmp_path, separator))
    assert data.classes == ("ant", "bee")
    assert sum(sizes(data).values()) == 12


def test_a_table_with_a_split_column(tmp_path: Path) -> None:
    data = vpt.data.load("table", path=csv_table(tmp_path, ",", split=True))
    assert sizes(data) == {"train": 8, "val": 2, "test": 2}


def test_json_lines_with_columns_of_other_names_and_labels_that_are_numbers(tmp_path: Path) -> None:
    rows = [{"file": str(picture(tmp_path / f"{i}.png", i)), "class": i % 11} for i in range(44)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = vpt.data.load("table", path=tmp_path / "t.jsonl", image_column="file", label_column="class")
    assert data.classes == tuple(str(i) for i in range(11))


def test_spaces_around_what_a_table_holds_mean_nothing(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "t.csv").write_text('path, label\n1.png, cat\n\n"2.png" ,dog\n3.png,cat \n')
    assert vpt.data.load("table", path=tmp_path / "t.csv").classes == ("cat", "dog")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\u2028", "\x0c"])
def test_a_value_of_a_table_may_go_over_several_lines(end: str, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        picture(tmp_path / f"{i}.png", i)
    rows = [f'1.png,cat,"a{end}cat"', f'2.png,dog,"a ""big{end}dog"""', "3.png,cat,x"]
    (tmp_path / "t.csv").write_bytes("\n".join(["path,label,said", *rows, ""]).encode())
    data = vpt.data.load("table", path=tmp_path / "t.csv", val_fraction=0, test_fraction=0)
    assert (data.classes, data.train.labels) == (("cat", "dog"), [0, 1, 0])
    (tmp_path / "t.csv").write_bytes("\n".join(["path,label,said", *rows, "4.png,,x", ""]).encode())
    line = 5 + 2 * end.count("\n")
    assert f"t.csv, line {line}: the column 'label' is empty" in refused("table", path=tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("\n".join(["path,label,said", *rows[:1], f'2.png,,"x{end}"', ""]).encode())
    line = 3 + end.count("\n")
    assert f"t.csv, line {line}: the column 'label' is empty" in refused("table", path=tmp_path / "t.csv")


def test_a_label_of_null_is_no_label(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "t.jsonl").write_text('{"path": "1.png", "label": "a"}\n{"path": "1.png", "label": null}\n')
    with pytest.raises(VptError, match=r"t.jsonl, line 2: the column 'label' is empty"):
        vpt.data.load("table", path=tmp_path / "t.jsonl")


def test_a_split_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(VptError, match=r"table.csv has no column 'splt' for splits: did you mean 'split'"):
        vpt.data.load("table", path=csv_table(tmp_path, ",", split=True), split_column="splt")


def test_a_table_for_each_split(tmp_path: Path) -> None:
    train, test = csv_table(tmp_path / "a", ","), csv_table(tmp_path / "b", ",", rows=4)
    assert sizes(vpt.data.load("table", path=train, test=test, val_fraction=0)) == {"train": 12, "test": 4}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("path,labels\n1.png,a\n", "t.csv, line 2 has no column 'label': did you mean 'labels'?"),
        ("path,label\n1.png,a\n1.png\n", "t.csv, line 3 has another number of columns"),
        ("path,label\n1.png,\n", "t.csv, line 2: the column 'label' is empty"),
        ("path,label\n\n\n1.png, \n", "t.csv, line 4: the column 'label' is empty"),
        ("path,label\n1.png,a\nno.png,b\n", "1 of 2 images are missing, first"),
        ("path,label\n", "t.csv holds no rows"),
        ("path,label,label\n1.png,a,b\n", "t.csv has two columns 'label'"),
        ('path,label\n1.png,"a\n2.png,b\n', "t.csv, line 2 has quotation marks that are not closed"),
        ('path,label\n1.png,"a\n2.png,"b"\n', "t.csv, line 2 has quotation marks that are not closed"),
        ('path,label\n1.png,"a\n2.png,"b\n3.png,c\n', "t.csv, line 2 has quotation marks that are not closed"),
        ('path,label\n1.png,"' + 200_000 * "a\n", "t.csv, line 2 has quotation marks that are not closed"),
        ("path,label\n1.png,a\n2.png,nan\n", "t.csv, line 3: the label 'nan' is no class"),
        ("path,label\n1.png,a\n2.png,\"['a', 'b']\"\n", "t.csv, line 3: the label \"['a', 'b']\" is no class"),
        ("path,label\n1.png,a\n./1.png,b\n", "has the labels 'a', at "),
        ("path,label,split\n1.png,a,train\n2.png,b,train\n1.png,a,test\n", "1.png is in train, at "),
        ("path,label,split\n1.png,a,test\n", "t.csv has no training images"),
        ("path,label,Split\n1.png,a,train\n2.png,b,held out\n", "line 3: split 'held out' is not one of"),
        ("path,label,set,part\n1.png,a,train,train\n2.png,b,test,test\n", "several columns of splits, set, part"),
        ("path,label\n1.png,a\n2.png,a\n", "has images of 1 classes: there must be 2 or more"),
        ("path,label,split\n1.png,a,train\n2.png,b,eval\n", "t.csv, line 3: split 'eval' is not one of"),
        ("path,label,split\n1.png,a,train\n2.png,c,train\n3.png,b,test\n", "no training image has the label 'b'"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_line(text: str, sentence: str, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(VptError) as error:
        vpt.data.load("table", path=tmp_path / "t.csv")
    assert sentence in str(error.value)


def vtab(root: Path) -> Path:
    for name, count in (("train800.txt", 8), ("val200.txt", 4), ("test.txt", 6)):
        paths = [picture(root / "images" / f"{name[:2]} {i}.png", i) for i in range(count)]
        (root / name).write_text("".join(f"{p.relative_to(root)} {i % 2}\n" for i, p in enumerate(paths)))
    return root


def test_lists_as_vtab_has_them(tmp_path: Path) -> None:
    data = vpt.data.load("lists", path=vtab(tmp_path))
    assert sizes(data) == {"train": 8, "val": 4, "test": 6}
    assert data.classes == ("0", "1")


def test_lists_with_class_names(tmp_path: Path) -> None:
    (vtab(tmp_path) / "names.txt").write_text("ant\nbee\n")
    assert vpt.data.load("lists", path=tmp_path, classes="names.txt").classes == ("ant", "bee")


def test_lists_may_be_separated_by_tabs(tmp_path: Path) -> None:
    text = (vtab(tmp_path) / "test.txt").read_text().replace(".png ", ".png\t")
    (tmp_path / "test.txt").write_text(text)
    assert sizes(vpt.data.load("lists", path=tmp_path))["test"] == 6


def test_class_names_in_another_encoding_are_told(tmp_path: Path) -> None:
    (vtab(tmp_path) / "names.txt").write_bytes("ant\nbée\n".encode("latin-1"))
    with pytest.raises(VptError, match=r"names.txt is no text file in UTF-8"):
        vpt.data.load("lists", path=tmp_path, classes="names.txt")


def test_a_list_that_is_wrong_is_told_by_line(tmp_path: Path) -> None:
    (vtab(tmp_path) / "test.txt").write_text("images/a.png cat\n")
    with pytest.raises(VptError, match=r"test.txt, line 1 is not 'path label'"):
        vpt.data.load("lists", path=tmp_path)
    with pytest.raises(VptError, match=r"there is no list .*none.txt: .* holds test.txt, train800.txt, val200.txt"):
        vpt.data.load("lists", path=tmp_path, train="none.txt")


def test_the_embedded_digits() -> None:
    data = vpt.data.load("digits")
    assert sum(sizes(data).values()) == 1797
    assert len(data.classes) == 10
    assert data.train.image(0).size == (8, 8)
    assert np.asarray(data.train.image(0)).max() == 255


def test_a_torchvision_data_set_with_a_train_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's own files, ten images a batch."""
    import hashlib
    import pickle

    from torchvision.datasets import CIFAR10

    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    base = tmp_path / CIFAR10.base_folder
    base.mkdir()
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for file, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        content = pickle.dumps({"data": np.zeros((10, 3072), np.uint8), "labels": list(range(10))})
        (base / file).write_bytes(content)
        which = "test_list" if file == "test_batch" else "train_list"
        lists[which].append([file, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    (base / "batches.meta").write_bytes(meta)
    for which, files in lists.items():
        monkeypatch.setattr(CIFAR10, which, files)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()})
    data = vpt.data.load("torchvision/CIFAR10", val_fraction=0.2)
    assert sizes(data) == {"train": 40, "val": 10, "test": 10}
    assert data.classes[3] == "class 3"
    assert data.val.image(0).size == (32, 32)


def test_a_torchvision_data_set_with_named_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flowers102's own files: images by number, labels and splits in MATLAB files."""
    import scipy.io

    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    base = tmp_path / "flowers-102"
    for i in range(1, 13):
        picture(base / "jpg" / f"image_{i:05d}.jpg")
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2] * 6])})
    ids = {"trnid": [[1, 2, 3, 4]], "valid": [[5, 6]], "tstid": [[7, 8, 9, 10, 11, 12]]}
    scipy.io.savemat(base / "setid.mat", {key: np.array(value) for key, value in ids.items()})
    monkeypatch.setattr("torchvision.datasets.Flowers102._check_integrity", lambda self: True)
    data = vpt.data.load("torchvision/Flowers102")
    assert sizes(data) == {"train": 4, "val": 2, "test": 6}
    assert data.train.labels == [0, 1, 0, 1]


def test_a_torchvision_data_set_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    with pytest.raises(VptError, match=r"torchvision/CIFAR10 could not be had below .*: say data.download=true"):
        vpt.data.load("torchvision/CIFAR10")
    with pytest.raises(
        VptError, match=r"torchvision/StanfordCars .* cannot be downloaded anymore.*see its documentation"
    ):
        vpt.data.load("torchvision/StanfordCars", download=True)
    with pytest.raises(VptError, match="no classification data set 'CIFAR11': did you mean 'CIFAR10'"):
        vpt.data.load("torchvision/CIFAR11")


def test_splits_of_torchvision_without_labels_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the test images of CLEVR are; and classes of several names, as Imagenette's."""
    from torchvision import datasets

    class Imagenette(datasets.VisionDataset):
        classes = (("tench", "Tinca tinca"), ("springer",))

        def __init__(self, root: Path, split: str = "train", transform: object = None) -> None:
            if split not in ("train", "test"):
                raise ValueError("split is one of ('train', 'test')")
            self._labels = [0, 1] * 10 if split == "train" else [None] * 20

        def __len__(self) -> int:
            return 20

    monkeypatch.setattr(datasets, "Imagenette", Imagenette)
    data = vpt.data.load("torchvision/Imagenette", val_fraction=0.2, test_fraction=0)
    assert sizes(data) == {"train": 16, "val": 4}
    assert data.classes == ("tench", "springer")


def test_torchvisions_classification_sets_are_known() -> None:
    known = set(torchvision_names())
    assert {"CIFAR100", "DTD", "EuroSAT", "FGVCAircraft", "Flowers102", "Food101", "ImageNet", "OxfordIIITPet"} <= known
    assert not {"CocoDetection", "EMNIST", "VOCSegmentation", "Kinetics", "MovingMNIST", "ImageFolder"} & known


@pytest.fixture
def with_broken(tmp_path: Path) -> Path:
    folder_of(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a" / "03.png").write_bytes(b"nonsense")
    whole = (tmp_path / "b" / "05.png").read_bytes()
    (tmp_path / "b" / "05.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_broken_files_stop_the_run_and_are_named(with_broken: Path) -> None:
    with pytest.raises(VptError, match=r"2 images cannot be decoded: .*03.png, .*05.png; mend them, or say"):
        vpt.data.load("folder", path=with_broken, val_fraction=0, test_fraction=0)


def test_broken_files_are_skipped_and_counted_on_demand(with_broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vpt.data.load("folder", path=with_broken, val_fraction=0, test_fraction=0, broken="skip")
    assert len(data.train) == 18
    assert [Path(name).name for name in data.facts()["skipped"]] == ["03.png", "05.png"]
    assert "2 broken images skipped" in capsys.readouterr().err


def test_a_class_whose_every_image_is_broken_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": 4, "b": 1})
    (tmp_path / "b" / "00.png").write_bytes(b"nonsense")
    with pytest.raises(VptError, match="no training image of class 'b' can be decoded"):
        vpt.data.load("folder", path=tmp_path, broken="skip", val_fraction=0, test_fraction=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"val_fraction": 1.0}, "data.val_fraction=1.0 is no share"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"shots": 0}, "data.shots=0 leaves nothing to train on"),
        ({"pth": "x"}, "data.pth is no option"),
    ],
)
def test_options_that_will_not_do(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.data.load("digits", **options)
    assert sentence in str(error.value)


def test_names_are_found_in_the_modules() -> None:
    assert {"digits", "folder", "table", "lists", "domains", "caltech101", "imagenet_a", "torchvision/*"} <= set(
        vpt.data.names()
    )
