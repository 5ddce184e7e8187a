"""Every file and row is used, refused, or counted and named."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import vpt
from tests.data.replicas import WHOLE, folder_of, picture, refused, sizes
from vpt import VptError
from vpt.data.base import DataSet, Files
from vpt.data.identical import tell_identical

Told = Callable[[], str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What has been said on standard error."""
    return lambda: capsys.readouterr().err


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of four images, all different."""
    for label, name in enumerate(("ant", "bee")):
        for i in range(4):
            picture(tmp_path / "photos" / name / f"{i}.png", 10 * label + i)
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".jp2", ".dib", ".tiff", ".pbm", ".JPG"])
def test_suffixes_of_the_formats_that_are_read(suffix: str, photos: Path, told: Told) -> None:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(photos / "ant" / f"x{suffix}")
    assert len(vpt.data.load("folder", path=photos, **WHOLE).train) == 9
    assert told() == ""


def test_what_is_no_image_is_counted_and_named(photos: Path, told: Told) -> None:
    for name in ("ant/a.heic", "ant/b.heic", "bee/notes.txt", "bee/scan", "bee/Thumbs.db", "bee/.hidden"):
        (photos / name).write_bytes(b"x")
    (photos / "README.md").write_bytes(b"x")
    assert len(vpt.data.load("folder", path=photos, **WHOLE).train) == 8
    said = told()
    assert "4 files of" in said
    assert "(2 with .heic, 1 with .txt, 1 with no suffix), first" in said
    assert "convert it to .jpg" in said
    assert "1 files beside the folders in" in said
    assert "README.md" in said


def test_linked_folders_are_followed_and_a_circle_of_links_ends(photos: Path, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "deep" / "9.png", 99)
    os.symlink(tmp_path / "elsewhere", photos / "ant" / "more")
    os.symlink(photos / "ant", photos / "ant" / "deep")
    os.symlink(photos, photos / "bee" / "round")
    data = vpt.data.load("folder", path=photos, check=False, **WHOLE)
    assert sum(Path(data.train.name(i)).name == "9.png" for i in range(len(data.train))) >= 1
    assert len(data.train) < 40


def test_links_that_lead_nowhere_are_missing_images(photos: Path) -> None:
    for i in range(3):
        os.symlink(f"/nowhere/{i}.png", photos / "bee" / f"link{i}.png")
    assert "3 images cannot be decoded" in refused("folder", path=photos)
    assert "it is a link that leads nowhere" in refused("folder", path=photos)
    assert len(vpt.data.load("folder", path=photos, broken="skip", **WHOLE).train) == 8


@pytest.mark.parametrize("name", ["train", "test", "Validation"])
def test_a_class_may_be_called_as_a_split_is(name: str, photos: Path, told: Told) -> None:
    picture(photos / name / "1.png", 77)
    data = vpt.data.load("folder", path=photos, **WHOLE)
    assert sorted(data.classes) == sorted(("ant", "bee", name))
    assert f"{name} holds images and no folders of classes: it is taken for a class" in told()


def test_what_may_be_a_split_or_a_class_is_asked_for(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", {"steam": 2, "electric": 2})
    folder_of(tmp_path, {"bus": 2, "car": 2})
    assert "beside it are folders of images that are none, bus, car: move these" in refused("folder", path=tmp_path)
    folder_of(tmp_path / "flat", {"train": 3, "test": 3})
    assert "is called as a split is, and holds no folders of images" in refused("folder", path=tmp_path / "flat")


def test_folders_beside_the_splits_are_named(photos: Path, told: Told) -> None:
    photos.rename(photos.with_name("train"))
    root = photos.parent
    folder_of(root / "test", {"ant": 1, "bee": 1})
    picture(root / "unlabelled" / "1.png")
    assert sizes(vpt.data.load("folder", path=root, val_fraction=0)) == {"train": 8, "test": 2}
    assert "folders beside the splits of" in told()


def test_a_class_without_test_images_is_named(tmp_path: Path, told: Told) -> None:
    folder_of(tmp_path / "train", {"ant": 2, "bee": 2, "cow": 2})
    folder_of(tmp_path / "test", {"bee": 1})
    vpt.data.load("folder", path=tmp_path, val_fraction=0)
    assert "2 of 3 classes of" in (said := told())
    assert "have no test images: ant, cow." in said


def test_identical_files_in_two_splits_or_classes_are_named(tmp_path: Path, told: Told) -> None:
    for place, grey in (
        ("train/ant/1", 1),
        ("train/ant/2", 2),
        ("train/bee/1", 2),
        ("test/ant/x", 1),
        ("test/bee/x", 9),
    ):
        picture(tmp_path / f"{place}.png", grey)
    vpt.data.load("folder", path=tmp_path, val_fraction=0)
    said = told()
    assert "1 test images are the same files as training images, first" in said
    assert "test/ant/x.png, which is also" in said
    assert "1 training images are in two classes, first" in said


def test_identical_files_with_captions_are_named(tmp_path: Path, told: Told) -> None:
    for i, grey in enumerate((1, 2, 1)):
        picture(tmp_path / f"{i}.png", grey)
    (tmp_path / "t.csv").write_text("image,caption,split\n0.png,x,train\n1.png,y,train\n2.png,z,test\n")
    vpt.data.load("captions", path=tmp_path / "t.csv", val_fraction=0)
    assert "1 test images are the same files as training images" in told()


def test_one_file_in_two_splits_is_named_but_where_val_is_test_by_design(tmp_path: Path, told: Told) -> None:
    paths = [picture(tmp_path / f"{i}.png", i) for i in range(4)]
    train, held = Files(paths[:2], [0, 1]), Files(paths[2:], [0, 1])
    tell_identical(DataSet("x", ("ant", "bee"), train, held, held))
    assert told() == ""
    tell_identical(DataSet("x", ("ant", "bee"), train, unlabelled=held, test=Files(paths[1:3], [1, 0])))
    said = told()
    assert "1 test images are the same files as training images, first" in said
    assert "1 unlabelled images are the same files as test images, first" in said
    tell_identical(DataSet("x", ("ant", "bee"), Files([paths[0], paths[0]], [0, 1])))
    assert "1 training images are in two classes, first" in told()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(8):
        picture(tmp_path / f"{i}.png", i)
    return tmp_path


HEADS = {"table": "path,label", "captions": "filepath,title"}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("column", ["Split", "set", "subset", "which part"])
def test_splits_in_a_column_of_any_name(column: str, kind: str, pictures: Path, told: Told) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{'Test' if i > 5 else 'train'}\n" for i in range(8)]
    (pictures / "t.csv").write_text(f"{HEADS[kind]},{column}\n" + "".join(rows))
    assert sizes(vpt.data.load(kind, path=pictures / "t.csv", val_fraction=0)) == {"train": 6, "test": 2}
    assert f"the column '{column}' says which split a row belongs to" in told()


@pytest.mark.parametrize("kind", HEADS)
def test_a_column_that_may_mean_splits_and_does_not_say_so_is_named(kind: str, pictures: Path, told: Told) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{int(i > 5)}\n" for i in range(8)]
    (pictures / "t.csv").write_text(f"{HEADS[kind]},is_test\n" + "".join(rows))
    assert sizes(vpt.data.load(kind, path=pictures / "t.csv", **WHOLE)) == {"train": 8}
    assert "not read as splits, as they do not say train, val or test: is_test" in told()


@pytest.mark.parametrize("kind", HEADS)
def test_a_column_of_splits_holds_beside_a_table_for_each(kind: str, pictures: Path) -> None:
    rows = [f"{i}.png,{'ab'[i % 2]},{'val' if i > 3 else 'train'}\n" for i in range(6)]
    (pictures / "t.csv").write_text(f"{HEADS[kind]},split\n" + "".join(rows))
    (pictures / "e.csv").write_text(f"{HEADS[kind]}\n6.png,a\n7.png,b\n")
    found = vpt.data.load(kind, path=pictures / "t.csv", test=pictures / "e.csv")
    assert sizes(found) == {"train": 4, "val": 2, "test": 2}
    (pictures / "e.csv").write_text(f"{HEADS[kind]},split\n6.png,a,test\n7.png,b,train\n")
    sentence = refused(kind, path=pictures / "t.csv", test=pictures / "e.csv")
    assert "line 3 says train, and the table is given for test" in sentence


def test_a_column_that_says_splits_in_some_rows_is_asked_about(pictures: Path) -> None:
    (pictures / "t.csv").write_text("path,label,set\n0.png,a,test\n1.png,b,dev\n2.png,a,\n")
    assert "line 3: split 'dev' is not one of train, val and test" in refused("table", path=pictures / "t.csv")


def test_a_row_without_a_split_where_others_have_one(pictures: Path) -> None:
    rows = ['{"path": "0.png", "label": "a", "split": "train"}', '{"path": "1.png", "label": "b"}']
    (pictures / "t.jsonl").write_text("\n".join(rows))
    assert "line 2 has no 'split', and other rows have" in refused("table", path=pictures / "t.jsonl")


def test_rows_that_repeat_an_image_are_left_out_and_counted(pictures: Path, told: Told) -> None:
    rows = [f"{i % 8}.png,{'ab'[i % 2]}\n" for i in range(24)]
    (pictures / "t.csv").write_text("path,label\n" + "".join(rows) + "./0.png,a\n")
    data = vpt.data.load("table", path=pictures / "t.csv")
    assert sum(sizes(data).values()) == 8
    assert "17 rows that repeat an image are left out, at" in told()


def test_names_that_are_too_long_are_missing_images(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,label,caption\n{'x' * 5000},a,b\nphotos/ant/0.png,b,b\n")
    for kind in ("table", "captions"):
        asked = {"image_column": "path"} if kind == "captions" else {}
        sentence = refused(kind, path=tmp_path / "t.csv", **asked)
        assert "1 of " in sentence
        assert "missing" in sentence


def labelled(photos: Path, *labels: str) -> vpt.data.DataSet:
    """A table of one image a label."""
    rows = [f"ant/{i % 4}.png,{label}" if i < 4 else f"bee/{i % 4}.png,{label}" for i, label in enumerate(labels)]
    (photos / "t.csv").write_text("\n".join(["path,label", *rows]))
    return vpt.data.load("table", path=photos / "t.csv", **WHOLE)


@pytest.mark.parametrize("labels", [("0.0", "10.0", "2.0"), ("0", "10.00", "2"), ("-1.0", "1.0", "3")])
def test_whole_numbers_with_a_point_are_these_numbers(labels: tuple[str, ...], photos: Path, told: Told) -> None:
    assert labelled(photos, *labels).classes == tuple(sorted((x.partition(".")[0] for x in labels), key=int))
    assert "has whole numbers with a point" in told()


def test_labels_that_go_over_several_lines_are_told(photos: Path, told: Told) -> None:
    assert labelled(photos, '"a\nb"', "bee").classes == ("a\nb", "bee")
    assert r"has labels of several lines, 'a\nb': mend the quotation marks" in told()


def test_one_number_written_in_two_ways_is_two_classes_in_a_fixed_order_which_is_told(photos: Path, told: Told) -> None:
    # In order of number and text, whichever way a set of texts runs.
    assert labelled(photos, "2", "1", "001", "10", "01").classes == ("001", "01", "1", "2", "10")
    assert "the labels '001' and '01' are two classes: write them alike if they mean one number" in told()
    assert labelled(photos, "1", "9" * 5000).classes == ("1", "9" * 5000)
    assert told() == ""


@pytest.mark.parametrize("labels", [("0.0", "0.5", "1.0"), ("v1.0", "v2.0"), ("1.0", "other")])
def test_other_names_with_a_point_stay(labels: tuple[str, ...], photos: Path, told: Told) -> None:
    assert labelled(photos, *labels).classes == labels
    assert told() == ""


@pytest.mark.parametrize("word", ["None", "NULL", "n/a", "<NA>"])
def test_words_for_nothing_are_told(word: str, photos: Path, told: Told) -> None:
    assert word in labelled(photos, "ant", word, "bee").classes
    assert f"says '{word}', which is taken for a class" in told()


@pytest.mark.parametrize("labels", ["[1, 2]", "[]", '{"id": 1}', "NaN", "true", "0.5"])
def test_labels_that_are_no_class(labels: str, pictures: Path) -> None:
    rows = ['{"path": "0.png", "label": "a"}', f'{{"path": "1.png", "label": {labels}}}']
    (pictures / "t.jsonl").write_text("\n".join(rows))
    assert "t.jsonl, line 2: the label" in (sentence := refused("table", path=pictures / "t.jsonl"))
    assert "is no class" in sentence


def test_a_table_from_windows_and_names_that_are_almost_alike(pictures: Path, told: Told) -> None:
    (pictures / "sub").mkdir()
    (pictures / "7.png").rename(pictures / "sub/7.png")
    rows = [f"{i}.png,{'a bee' if i % 2 else 'ant'}\n" for i in range(6)]
    (pictures / "t.csv").write_text("path,label\n" + "".join(rows) + "sub\\7.png,A_bee\n")
    data = vpt.data.load("table", path=pictures / "t.csv", val_fraction=0, test_fraction=0)
    assert data.train.name(6).endswith("sub/7.png")
    assert "the classes 'A_bee' and 'a bee' of" in told()


@pytest.mark.parametrize("suffix", [".json", ".xlsx", ".parquet"])
def test_a_file_that_is_no_table_is_told(suffix: str, pictures: Path) -> None:
    (pictures / f"t{suffix}").write_text('[{"path": "0.png", "label": "a"}]')
    assert "is no table that can be read: save it as .csv" in refused("table", path=pictures / f"t{suffix}")


def test_whole_numbers_of_json_are_classes_however_they_are_written(pictures: Path) -> None:
    rows = [f'{{"path": "{i}.png", "label": {label}, "score": 0.5}}' for i, label in enumerate(("1", "10.0", '"2"'))]
    (pictures / "t.jsonl").write_text("\n".join(rows))
    assert vpt.data.load("table", path=pictures / "t.jsonl", val_fraction=0, test_fraction=0).classes == (
        "1",
        "2",
        "10",
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("class_name\nant\nbee\n", "c.txt, line 1 is a header"),
        ("# of insects\nant\nbee\n", "c.txt, line 1 is a comment"),
        ("ant\n\nbee\n", "c.txt, line 2 is empty"),
        ("Insekten\nant\nbee\n", "c.txt names 3 classes, and the lists have labels from 0 to 1"),
        ("ant\n", "c.txt names 1 classes, and the lists have labels from 0 to 1"),
    ],
)
def test_names_of_classes_that_would_be_off_by_one(names: str, sentence: str, pictures: Path) -> None:
    (pictures / "t.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(8)))
    (pictures / "c.txt").write_text(names)
    assert sentence in refused("lists", path=pictures, train="t.txt", val=None, test=None, classes="c.txt")


def test_a_label_that_counts_no_classes_is_refused(pictures: Path) -> None:
    (pictures / "t.txt").write_text("0.png 0\n1.png 99999999999\n")
    sentence = refused("lists", path=pictures, train="t.txt", val=None, test=None)
    assert "t.txt, line 2 has the label 99999999999, and labels count classes from 0" in sentence


def test_a_label_that_no_image_has_is_named(pictures: Path, told: Told) -> None:
    (pictures / "t.txt").write_text("".join(f"{i}.png {1 + i % 2}\n" for i in range(8)))
    vpt.data.load("lists", path=pictures, train="t.txt", val=None, test=None, **WHOLE)
    assert "1 of 3 classes of" in (said := told())
    assert "have no training images: 0." in said


def test_names_are_printed_harmlessly(photos: Path, told: Told) -> None:
    (photos / "ant" / "\x1b[2Jx\n.txt").write_bytes(b"")
    (photos / "ant" / os.fsdecode(b"\xff.txt")).write_bytes(b"")
    (photos / "bee" / "[bold]\x1b[31m.png").write_bytes(b"nonsense")
    with pytest.raises(VptError) as error:
        vpt.data.load("folder", path=photos)
    assert r"[bold]\x1b[31m.png" in str(error.value)
    said = told()
    assert r"\x1b[2Jx\n.txt" in said
    assert r"\udcff.txt" in said
    assert "\x1b" not in said + str(error.value)


def test_a_class_whose_name_is_no_utf8_is_refused(photos: Path) -> None:
    os.mkdir(os.fsencode(photos) + b"/\xff")
    assert r"\udcff is no UTF-8: rename it" in refused("folder", path=photos)
