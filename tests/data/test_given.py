"""Data sets and loaders in hand: what is taken, and what is told in a sentence before anything is trained."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

import vpt
from tests.data.replicas import WHOLE, folder_of, picture
from vpt import Prompted, VptError
from vpt.data.given import Given, checked_source

PICTURES = [Image.new("RGB", (32, 32), (30 * i, 0, 0)) for i in range(8)]
ONE_HOT = torch.eye(2)


class Listed(Dataset[Any]):
    def __init__(self, items: Sequence[Any], classes: Any = None) -> None:
        self.items = items
        self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(PICTURES[0], 0)])


def model(classes: Sequence[str] = ("ant", "bee")) -> Prompted:
    return vpt.create("vpt/vit-nano", "linear", classes=classes)


def fit(data: Any, **options: Any) -> float:
    fitted = vpt.fit(model(), data, epochs=1, batch_size=4, progress=False, **options)
    return float(fitted.history[0]["train/loss"])


def refused(data: Any, **options: Any) -> str:
    with pytest.raises(VptError) as error:
        fit(data, **options)
    return str(error.value)


def loader(images: Any, labels: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images, labels), batch_size=4)


IMAGES, LABELS = torch.rand(8, 3, 32, 32), torch.arange(8) % 2


@pytest.mark.parametrize(
    "item",
    [
        lambda i: {"image": PICTURES[i], "label": i % 2},
        lambda i: [np.asarray(PICTURES[i]), np.int64(i % 2)],
        lambda i: (PICTURES[i], torch.tensor(i % 2)),
        lambda i: (PICTURES[i], bool(i % 2)),
    ],
)
def test_items_that_mean_an_image_and_a_class(item: Any) -> None:
    torch.manual_seed(0)
    expected = fit([(PICTURES[i], i % 2) for i in range(8)])
    torch.manual_seed(0)
    assert fit(Listed([item(i) for i in range(8)])) == expected


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK", "LA"])
def test_pictures_of_any_mode(mode: str) -> None:
    grey = Image.new("L", (32, 32), 80)
    item = grey.convert(mode) if mode != "I;16" else Image.fromarray(np.full((32, 32), 20000, np.uint16))
    image, label = Given(Listed([(item, 1)]), ("ant", "bee"))[0]
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size, label) == ("RGB", (32, 32), 1)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ((PICTURES[0], 0.9), "item 0 has the label 0.9: give the number of its class"),
        ((PICTURES[0], "ant"), "item 0 has the label 'ant': give the number"),
        ((PICTURES[0], None), "item 0 has the label None: give the number"),
        ((PICTURES[0], ONE_HOT[0]), "item 0 has the label of a Tensor: give the number"),
        ((PICTURES[0], torch.tensor(1.0)), "item 0 has the label of a Tensor: give the number"),
        ((PICTURES[0], [0, 1]), "item 0 has the label of a list: give the number"),
        ((PICTURES[0], 2), "item 0 has the label 2: labels go from 0 to 1"),
        ((PICTURES[0], -1), "item 0 has the label -1: labels go from 0 to 1"),
        ((PICTURES[0], 0, 7), "item 0 is a tuple of 3 parts: give (image, label)"),
        (PICTURES[0], "item 0 is a Image: give (image, label)"),
        ({"picture": PICTURES[0], "y": 0}, "item 0 is a dictionary of 'picture', 'y': give {'image'"),
        (("x.jpg", 0), "item 0 has a str for an image: give PIL's"),
        ((torch.zeros(3, 32, 32, dtype=torch.uint8), 0), "item 0 has pixels of torch.uint8: preprocess them"),
        ((torch.full((3, 32, 32), torch.nan), 0), "item 0 has pixels that are nan or infinite: mend the image"),
        ((torch.zeros(1, 3, 32, 32), 0), "item 0 has a tensor of shape (1, 3, 32, 32) for images: give (3, H, W)"),
        ((np.zeros((32, 32, 3)), 0), "item 0 is an array (32, 32, 3) of float64: give unsigned bytes"),
    ],
)
def test_items_that_do_not(item: Any, sentence: str, tmp_path: Path) -> None:
    assert sentence in refused(Listed([item] * 8), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_item_later_on_is_named_too() -> None:
    assert "item 5 has the label 2" in refused([(PICTURES[i], 2 * (i == 5)) for i in range(8)])


@pytest.mark.parametrize("labels", [LABELS, LABELS.int(), LABELS[:, None], LABELS.bool()])
def test_batches_that_mean_images_and_classes(labels: torch.Tensor) -> None:
    torch.manual_seed(0)
    expected = fit(loader(IMAGES, LABELS))
    torch.manual_seed(0)
    assert fit(loader(IMAGES, labels)) == expected


def test_batches_of_dictionaries() -> None:
    items = [{"pixel_values": IMAGES[i], "labels": i % 2} for i in range(8)]
    assert np.isfinite(fit(DataLoader(Listed(items), batch_size=4)))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (loader(IMAGES, LABELS.float()), "has labels (4,) of torch.float32: give whole numbers (B,)"),
        (loader(IMAGES, ONE_HOT[LABELS]), "has labels (4, 2) of torch.float32"),
        (loader(IMAGES, LABELS + 1), "has the label 2: labels go from 0 to 1"),
        (loader(IMAGES, -LABELS), "has the label -1: labels go from 0 to 1"),
        (loader((255 * IMAGES).byte(), LABELS), "has pixels of torch.uint8"),
        (loader(IMAGES + torch.inf, LABELS), "has pixels that are nan or infinite"),
        (loader(IMAGES[0], LABELS[:3]), "has a tensor of shape (3, 32, 32) for images: give (B, 3, H, W)"),
        (DataLoader(TensorDataset(IMAGES, LABELS, LABELS), batch_size=4), "is a list of 3 parts: give (image, label)"),
        (DataLoader(Stream(), batch_size=4), "is a loader of a stream, which has no length"),
        (Stream(), "is a Stream, whose items have no numbers"),
        ({"image": PICTURES, "label": [0] * 8}, "is a dict, whose items have no numbers"),
        (DataLoader(Listed([(PICTURES[0], 0)] * 8), batch_size=4), "the loader cannot make a batch of its items"),
        ([(torch.zeros(3, 32, 32 + i), 0) for i in range(8)], "images of one batch have the shapes (3, 32, 3"),
        (None, "is a NoneType, whose items have no numbers"),
        (vpt.data.load("digits", check=False), "is a whole data set: give one of its splits, such as data.train"),
    ],
)
def test_what_is_no_data_set(data: Any, sentence: str) -> None:
    assert sentence in refused(data)


def test_the_loader_in_hand_is_left_as_it_was() -> None:
    own = loader(IMAGES, LABELS)
    before = own.collate_fn
    fit(own)
    assert own.collate_fn is before


@pytest.mark.parametrize("kind", ["samples", "subset", "images", "loader"])
def test_classes_go_by_name_where_both_tell_them(kind: str, tmp_path: Path) -> None:
    for name, grey in (("bee", 1), ("cow", 2)):
        picture(tmp_path / name / "0.png", grey)
    samples = vpt.data.load("folder", path=tmp_path, **WHOLE).train
    images = ImageFolder(tmp_path)
    as_tensors = Listed([(IMAGES[i], i) for i in range(2)], classes=["bee", "cow"])
    data = {"samples": samples, "subset": Subset(images, [0, 1]), "images": images, "loader": DataLoader(as_tensors)}[
        kind
    ]
    found = checked_source(data, ("ant", "bee", "cow"))
    assert [int(label) for _, label in found] == [1, 2]
    with pytest.raises(VptError, match="the data has the class 'cow' and the model does not know it, but ant, bee"):
        checked_source(data, ("ant", "bee"))
    with pytest.raises(VptError, match="the data has the class 'bee' and the model does not know it"):
        checked_source(data, ("x", "y"))
    assert [int(label) for _, label in checked_source(data, ("0", "1"))] == [0, 1]
    assert [int(label) for _, label in checked_source(data, ("x", "y"), by_number=True)] == [0, 1]


def part(*classes: str) -> Listed:
    """A dataset of one image of each of its classes, labelled in their order."""
    return Listed([(IMAGES[i], i) for i in range(len(classes))], classes=list(classes))


MODELS = ("ant", "bee", "cow")
ALIKE = {
    "both": lambda: ConcatDataset([part("cow", "ant"), part("cow", "ant")]),
    "with a subset inside": lambda: ConcatDataset([Subset(part("cow", "ant"), [0, 1]), part("cow", "ant")]),
    "with a subset around": lambda: Subset(ConcatDataset([part("cow", "ant")] * 3), [0, 1, 4, 5]),
    "nested": lambda: ConcatDataset([ConcatDataset([part("cow", "ant")]), Subset(part("cow", "ant"), [0, 1])]),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_datasets_put_together_go_by_the_names_that_all_tell(kind: str) -> None:
    whole = ALIKE[kind]()
    for data in (whole, DataLoader(whole)):
        assert [int(label) for _, label in checked_source(data, MODELS)] == [2, 0, 2, 0]
        with pytest.raises(VptError, match="the data has the class 'cow' and the model does not know it"):
            checked_source(data, ("ant", "bee"))


def test_each_of_several_datasets_goes_by_its_own_names() -> None:
    whole = ConcatDataset([part("bee", "cow"), Subset(ConcatDataset([part("x"), part("ant", "bee")]), [1, 2])])
    found = checked_source(whole, MODELS)
    assert [int(label) for _, label in found] == [1, 2, 0, 1]
    assert [int(label) for _, label in pickle.loads(pickle.dumps(found))] == [1, 2, 0, 1]
    assert checked_source(Subset(whole, [3, 0]), MODELS)[0][1] == 1
    with pytest.raises(
        VptError, match=r"count their classes differently, 0 is not one class .* give the dataset itself"
    ):
        checked_source(DataLoader(whole), MODELS)
    # What says the same of every label may be mixed in a batch too.
    alike = DataLoader(ConcatDataset([part("ant", "bee"), part("ant"), part(*MODELS)]))
    assert [int(label) for _, label in checked_source(alike, MODELS)] == [0, 1, 0, 0, 1, 2]


def test_datasets_of_which_some_tell_no_names_or_the_model_none() -> None:
    nameless = Listed([(IMAGES[0], 0)])
    assert [int(label) for _, label in checked_source(ConcatDataset([part("ant"), nameless]), MODELS)] == [0, 0]
    for data in (whole := ConcatDataset([part("bee"), nameless]), DataLoader(whole)):
        with pytest.raises(VptError, match=r"calls its classes bee, .* another part does not tell names: give it"):
            checked_source(data, MODELS)
    for data in (whole := ConcatDataset([part("ant", "bee"), part("bee", "ant")]), DataLoader(whole)):
        with pytest.raises(VptError, match=r"call their classes ant, bee and bee, ant, and those of the model have no"):
            checked_source(data, ("0", "1"))


def test_the_transform_of_each_dataset_put_together_is_looked_at(tmp_path: Path) -> None:
    picture(tmp_path / "ant" / "0.png")
    raw = ImageFolder(tmp_path, transform=T.ToTensor())
    for data in (ConcatDataset([raw, raw]), Subset(ConcatDataset([raw, raw]), [0])):
        with pytest.raises(VptError, match="ends in numbers from 0 to 1"):
            checked_source(data, MODELS, preprocessing=model().preprocessing)


def test_evaluation_goes_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path / "all", {"ant": 3, "bee": 3, "cow": 3})
    folder_of(tmp_path / "some", {"bee": 3, "cow": 3})
    one = model(("ant", "bee", "cow"))
    some = vpt.data.load("folder", path=tmp_path / "some", **WHOLE).train
    confusion = np.array(vpt.evaluate(one, some, progress=False)["confusion"])
    assert confusion.sum(1).tolist() == [0, 3, 3]


def test_one_class_is_nothing_to_learn() -> None:
    one = vpt.create("vpt/vit-nano", "linear", num_classes=1)
    for work in (vpt.fit, vpt.evaluate):
        with pytest.raises(VptError, match="the model has 1 classes, and labels choose among 2 or more"):
            work(one, [(PICTURES[0], 0)], progress=False)


@pytest.mark.parametrize(
    "wrap", [lambda d: d, lambda d: Subset(d, range(4)), lambda d: ConcatDataset([d, d]), DataLoader]
)
@pytest.mark.parametrize("work", [vpt.fit, vpt.evaluate])
def test_a_transform_that_leaves_pixels_from_0_to_1(
    wrap: Callable[[Any], Any], work: Callable[..., Any], tmp_path: Path
) -> None:
    folder_of(tmp_path, {"ant": 4, "bee": 4})
    steps = [T.Resize((32, 32)), T.ToTensor()]
    with pytest.raises(VptError, match=r"the transform of \w+ ends in numbers from 0 to 1, .*end it with Normalize"):
        work(model(), wrap(ImageFolder(str(tmp_path), T.Compose(steps))), progress=False)
    whole = ImageFolder(str(tmp_path), T.Compose([*steps, T.Normalize(0.5, 0.5)]))
    assert vpt.evaluate(model(), wrap(whole), progress=False)["top1"] >= 0


@pytest.mark.parametrize(("scale", "said"), [(1.0, True), (255.0, True), (2.5, False)])
def test_pixels_that_seem_not_normalised_are_told(scale: float, said: bool, capsys: pytest.CaptureFixture[str]) -> None:
    vpt.evaluate(model(), [(scale * image, 0) for image in IMAGES], progress=False)
    told = capsys.readouterr().err
    assert told.count("as before they are normalised") == int(said)
    assert not said or "the pixels of data's first image go from" in told
