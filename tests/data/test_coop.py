"""CoOp's data sets, each on a tiny replica of its layout: splits, labels, class names, templates, missing pieces."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.data.replicas import folder_of, picture, sizes
from vpt import VptError
from vpt.data.coop import LAYOUTS
from vpt.data.imagenet import VARIANTS

SPLITS = ("train", "val", "test")
# WordNet's IDs in the order of ImageNet's labels, of which two share a name.
NAMED = {"n01440764": "tench", "n01443537": "goldfish", "n04355933": "sunglasses", "n04356056": "sunglasses"}
DISTINCT = ("tench", "goldfish", "sunglasses", "sunglasses (n04356056)")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    return tmp_path


def coop(root: Path, name: str, classes: int = 2, counts: tuple[int, int, int] = (6, 4, 2)) -> None:
    """A data set with a split file, whose classes take turns, and are called "grand_piano", "ant" and by number."""
    layout = LAYOUTS[name]
    names = ["grand_piano", "ant", *map(str, range(2, classes))]
    rows = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        paths = [f"{split}/{i}.png" for i in range(count)]
        for path in paths:
            picture(root / layout.folder / layout.images / path)
        rows[split] = [[path, i % classes, names[i % classes]] for i, path in enumerate(paths)]
    (root / layout.folder / layout.split).write_text(json.dumps(rows))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_split_file(name: str, root: Path) -> None:
    coop(root, name)
    data = vpt.data.load(name, shots=2, seed=1)
    assert data.classes == ("grand piano", "ant")
    assert sizes(data) == {"train": 4, "val": 4, "test": 2}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("caltech101", "a photo of a ant."),
        ("oxford_pets", "a photo of a ant, a type of pet."),
        ("stanford_cars", "a photo of a ant."),
        ("oxford_flowers", "a photo of a ant, a type of flower."),
        ("food101", "a photo of ant, a type of food."),
        ("sun397", "a photo of a ant."),
        ("dtd", "ant texture."),
        ("eurosat", "a centered satellite photo of ant."),
        ("ucf101", "a photo of a person doing ant."),
    ],
)
def test_templates_are_those_of_the_zero_shot_baseline(name: str, sentence: str, root: Path) -> None:
    coop(root, name)
    assert [template.format("ant") for template in vpt.data.load(name).templates] == [sentence]


def test_a_piece_that_is_missing_is_named_with_what_to_get_and_its_place(root: Path) -> None:
    with pytest.raises(VptError, match=r"dtd is not complete: put the images \(dtd-r1.0.1.tar.gz, .* at .*dtd/images"):
        vpt.data.load("dtd")
    (root / "dtd" / "images").mkdir(parents=True)
    with pytest.raises(VptError, match=r"put split_zhou_DescribableTextures.json .* at .*DescribableTextures.json"):
        vpt.data.load("dtd")


def test_an_image_that_is_missing_is_named(root: Path) -> None:
    coop(root, "dtd")
    (root / "dtd/images/val/3.png").unlink()
    with pytest.raises(VptError, match=r"1 images of dtd are missing, first .*val/3.png"):
        vpt.data.load("dtd")


@pytest.mark.parametrize("classes", [4, 5])
@pytest.mark.parametrize("shots", [None, 1, 4])
def test_base_and_new_are_what_all_has_of_their_classes(root: Path, classes: int, shots: int | None) -> None:
    coop(root, "dtd", classes, (classes * 8, classes * 5, classes * 3))
    whole, base, new = (
        vpt.data.load("dtd", shots=shots, seed=2, classes_subset=subset) for subset in ("all", "base", "new")
    )
    middle = (classes + 1) // 2
    assert base.classes == whole.classes[:middle]
    assert new.classes == whole.classes[middle:]
    for split, samples in whole.splits().items():
        rows = [(samples.name(i), label) for i, label in enumerate(samples.labels)]
        for half, first, count in ((base, 0, middle), (new, middle, classes - middle)):
            part = half.splits()[split]
            expected = [(name, label - first) for name, label in rows if first <= label < first + count]
            assert [(part.name(i), label) for i, label in enumerate(part.labels)] == expected
            assert set(part.labels) == set(range(count))


def test_one_class_is_nothing_to_choose_from(root: Path) -> None:
    coop(root, "dtd", classes=1)
    with pytest.raises(VptError, match=r"dtd has images of 1 classes: there must be 2 or more"):
        vpt.data.load("dtd")


def own(root: Path, **rows: list[list[Any]]) -> Path:
    """A set of one's own in this layout: rows of image, label and name of the class by split."""
    for of_split in rows.values():
        for path, _, _ in of_split:
            picture(root / "mine" / "images" / path)
    (root / "mine" / "images").mkdir(parents=True, exist_ok=True)
    (root / "mine" / "split_mine.json").write_text(json.dumps({"val": [], "test": []} | rows))
    return root / "mine"


def test_a_split_file_of_ones_own(root: Path) -> None:
    rows = {split: [[f"{split}/{i}.png", i % 2, ["hot_dog", "cat"][i % 2]] for i in range(4)] for split in SPLITS}
    path = own(root, **rows)
    data = vpt.data.load("coop", path=path)
    assert data.classes == ("hot dog", "cat")
    assert sizes(data) == {"train": 4, "val": 4, "test": 4}
    (path / "split_mine.json").rename(path / "other.json")
    (path / "images").rename(path / "pictures")
    assert sizes(vpt.data.load("coop", path=path, images="pictures", split="other.json")) == sizes(data)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"train": [["0.png", 0, "a"], ["1.png", 1, "b"], ["1.png", 0, "a"]]}, "1.png has the labels 1"),
        ({"train": [["0.png", 0, "a"], ["1.png", 1, "b"]], "test": [["0.png", 0, "a"]]}, "0.png is in train"),
        ({"train": [["0.png", 0, "a"], ["1.png", 1, "b"], ["2.png", 1, "c"]]}, "calls label 1 'b' and, at 2.png, 'c'"),
        ({"train": []}, "has no training images"),
        ({"train": [["0.png", 1, "a"], ["1.png", 2, "b"]]}, "does not number its classes from 0"),
    ],
)
def test_a_split_file_of_ones_own_that_is_wrong(rows: dict[str, Any], sentence: str, root: Path) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.data.load("coop", path=own(root, **rows))


def test_a_set_of_ones_own_needs_one_split_file(root: Path) -> None:
    with pytest.raises(VptError, match=r"data.name=coop needs data.path"):
        vpt.data.load("coop")
    (root / "mine").mkdir()
    with pytest.raises(VptError, match=r"mine holds no split_\*.json: name the split file in it as data.split="):
        vpt.data.load("coop", path=root / "mine")


def aircraft(root: Path) -> Path:
    folder = root / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nF-16A/B\nDR-400\nCessna 172\n")
    for split, variants in (("train", ["Cessna 172", "F-16A/B"]), ("val", ["DR-400"]), ("test", ["707-320"] * 3)):
        lines = []
        for index, variant in enumerate(variants):
            image = picture(folder / "images" / f"00{len(split)}{index}.jpg")
            lines.append(f"{image.stem} {variant}\n")
        (folder / f"images_variant_{split}.txt").write_text("".join(lines))
    return folder


def test_aircraft_by_variant(root: Path) -> None:
    aircraft(root)
    data = vpt.data.load("fgvc_aircraft")
    assert data.classes == ("707-320", "F-16A/B", "DR-400", "Cessna 172")
    assert (data.train.labels, data.val.labels, data.test.labels) == ([3, 1], [2], [0, 0, 0])
    assert data.templates == ("a photo of a {}, a type of aircraft.",)


def test_aircraft_that_are_not_as_published_are_told(root: Path) -> None:
    with pytest.raises(VptError, match=r"put the images of fgvc-aircraft-2013b.tar.gz .* at .*fgvc_aircraft/images"):
        vpt.data.load("fgvc_aircraft")
    folder = aircraft(root)
    (folder / "images_variant_val.txt").write_text("0030 DR-40\n")
    with pytest.raises(VptError, match=r"val.txt gives image 0030 the variant 'DR-40', .* did you mean 'DR-400'"):
        vpt.data.load("fgvc_aircraft")
    (folder / "images_variant_val.txt").write_text("0031 DR-400\n")
    with pytest.raises(VptError, match=r"1 images of fgvc_aircraft are missing, first .*0031.jpg"):
        vpt.data.load("fgvc_aircraft")
    (folder / "images_variant_val.txt").unlink()
    with pytest.raises(VptError, match=r"put images_variant_val.txt of fgvc-aircraft"):
        vpt.data.load("fgvc_aircraft")


def class_names(folder: Path, named: dict[str, str] = NAMED) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("".join(f"{key} {name}\n" for key, name in named.items()))


def imagenet(root: Path) -> Path:
    folder_of(root / "imagenet/images/train", dict.fromkeys(NAMED, 8))
    folder_of(root / "imagenet/images/val", dict.fromkeys(NAMED, 2))
    class_names(root / "imagenet")
    return root / "imagenet"


def test_the_validation_images_of_imagenet_are_val_and_test(root: Path) -> None:
    imagenet(root)
    data = vpt.data.load("imagenet")
    assert sizes(data) == {"train": 32, "val": 8, "test": 8}
    assert [data.val.name(i) for i in range(8)] == [data.test.name(i) for i in range(8)]
    assert "/images/val/n01440764/" in data.test.name(0)
    assert data.classes == DISTINCT
    assert data.templates == ("a photo of a {}.",)


def test_val_of_imagenet_can_come_from_the_training_images(root: Path) -> None:
    imagenet(root)
    assert sizes(vpt.data.load("imagenet", val="train", val_fraction=0.25)) == {"train": 24, "val": 8, "test": 8}
    assert sizes(vpt.data.load("imagenet", val="train", val_fraction=0, shots=2)) == {"train": 8, "test": 8}


def test_what_is_missing_of_imagenet_is_named(root: Path) -> None:
    with pytest.raises(VptError, match=r"put the training images \(ILSVRC2012_img_train.tar, .*at .*images/train"):
        vpt.data.load("imagenet")
    folder_of(root / "imagenet/images/train", {"n01440764": 1, "n01443537": 1})
    picture(root / "imagenet/images/val/ILSVRC2012_val_00000001.png")
    with pytest.raises(VptError, match=r"put classnames.txt \(linked in .* at .*imagenet/classnames.txt"):
        vpt.data.load("imagenet")
    class_names(root / "imagenet", {"n01440764": "tench"})
    with pytest.raises(VptError, match=r"images/val lacks 2 folders of classes, first n01440764"):
        vpt.data.load("imagenet")
    folder_of(root / "imagenet/images/val", {"n01440764": 1, "n01443537": 1})
    with pytest.raises(VptError, match=r"classnames.txt has no name for .*n01443537"):
        vpt.data.load("imagenet")


def test_the_folders_of_imagenetv2_are_labels_and_sorted_as_numbers(root: Path) -> None:
    named = {f"n{i:08d}": f"class {i}" for i in range(12)}
    class_names(root / "imagenetv2", named)
    images = root / "imagenetv2/imagenetv2-matched-frequency-format-val"
    for label in range(12):
        picture(images / str(label) / "a.png")
    data = vpt.data.load("imagenetv2")
    assert data.classes == tuple(named.values())
    assert {int(Path(data.test.name(i)).parent.name): label for i, label in enumerate(data.test.labels)} == {
        label: label for label in range(12)
    }
    (images / "11/a.png").unlink()
    (images / "11").rmdir()
    with pytest.raises(VptError, match="lacks 1 folders of classes, first 11"):
        vpt.data.load("imagenetv2")


@pytest.mark.parametrize(
    ("name", "folder"), [("imagenet_a", "imagenet-adversarial"), ("imagenet_r", "imagenet-rendition")]
)
def test_a_and_r_have_labels_of_their_own_for_a_part_of_the_classes(name: str, folder: str, root: Path) -> None:
    """Here the names lie in ImageNet's own folder, and not, as CoOp has it, in a copy beside the images."""
    imagenet(root)
    images = folder_of(root / folder / VARIANTS[name].images, {"n04356056": 2, "n01443537": 3})
    (images / "README.txt").write_text("not a class")
    data = vpt.data.load(name)
    assert data.classes == ("goldfish", "sunglasses (n04356056)")
    assert data.test.labels == [0, 0, 0, 1, 1]
    (images / "n09999999").mkdir()
    with pytest.raises(VptError, match=r"classnames.txt has no name for .*n09999999"):
        vpt.data.load(name)


def test_sketch_has_all_classes_of_imagenet(root: Path) -> None:
    images = folder_of(root / "imagenet-sketch/images", dict.fromkeys(NAMED, 1))
    class_names(root / "imagenet-sketch")
    assert vpt.data.load("imagenet_sketch").classes == DISTINCT
    (images / "n01440764/00.png").unlink()
    with pytest.raises(VptError, match="n01440764 holds no images"):
        vpt.data.load("imagenet_sketch")


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_missing_of_a_variant_is_named(name: str, root: Path) -> None:
    with pytest.raises(VptError, match=rf"{name} is not complete: put the images .* at .*{VARIANTS[name].images}"):
        vpt.data.load(name)


def test_a_set_for_testing_only_has_nothing_to_train_on_and_halves_all_the_same(root: Path) -> None:
    imagenet(root)
    folder_of(root / "imagenet-sketch/images", dict.fromkeys(NAMED, 2))
    data = vpt.data.load("imagenet_sketch", shots=1)
    assert sizes(data) == {"test": 8}
    assert len(data.train) == 0
    assert data.facts()["sizes"] == {"test": 8}
    assert vpt.data.load("imagenet_sketch", classes_subset="new").classes == DISTINCT[2:]
    for options, sentence in (
        ({"val_fraction": 0.1}, "imagenet_sketch is for testing only: leave data.val_fraction"),
        ({"val": "train"}, "data.val=train is an option of imagenet"),
    ):
        with pytest.raises(VptError, match=sentence):
            vpt.data.load("imagenet_sketch", **options)


def shared(*parts: str) -> Callable[..., None]:
    """Skip a test where the real data set is not below VPT_DATA."""
    there = Path(os.environ.get("VPT_DATA", "data")).joinpath(*parts).exists()
    return pytest.mark.skipif(not there, reason=f"VPT_DATA holds no {'/'.join(parts)}")


@pytest.mark.shared_data
@shared("caltech-101", "split_zhou_Caltech101.json")
def test_the_real_caltech101() -> None:
    data = vpt.data.load("caltech101", shots=1, seed=1, check=False)
    assert len(data.classes) == 100
    assert data.classes[:4] == ("face", "leopard", "motorbike", "accordion")
    assert sizes(data)["train"] == 100
    assert vpt.data.load("caltech101", classes_subset="new", check=False).classes == data.classes[50:]
