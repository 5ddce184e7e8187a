"""Any classification data set of torchvision by name, e.g. "torchvision/Flowers102"."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from PIL import Image

from vpt.data.base import DataSet, Samples
from vpt.errors import VptError, did_you_mean
from vpt.images import to_rgb
from vpt.paths import data_root

NAMES = ("torchvision/*",)

# What a data set calls its splits: the constructor's argument, and its values for ours.
SPLIT_VALUES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}


class TorchvisionSamples(Samples):
    """A torchvision data set, or some of its rows."""

    def __init__(self, source: Any, labels: Sequence[int], title: str, rows: Sequence[int] | None = None) -> None:
        self.source = source
        self.labels = list(labels)
        self.title = title
        self.rows = list(rows) if rows is not None else list(range(len(labels)))

    def image(self, index: int) -> Image.Image:
        """As the data set gives it."""
        try:
            return to_rgb(self.source[self.rows[index]][0])
        except OSError as error:
            raise VptError(f"{self.name(index)} cannot be decoded ({error}): download the data set again.") from error

    def name(self, index: int) -> str:
        """Its row, e.g. "torchvision/Flowers102 train[17]"."""
        return f"{self.title}[{self.rows[index]}]"

    def subset(self, indices: Sequence[int]) -> TorchvisionSamples:
        """Those at `indices`, in this order."""
        rows = [self.rows[i] for i in indices]
        return TorchvisionSamples(self.source, [self.labels[i] for i in indices], self.title, rows).named(self.classes)


def load(name: str, *, download: bool = False) -> DataSet:
    """The data set's own splits; one that has none is split by the caller.

    Args:
        name: "torchvision/" and the class's name in `torchvision.datasets`.
        download: fetch it into VPT_DATA if it is not there.

    Raises:
        VptError: no such data set, not one of images and classes, or not there.
    """
    from torchvision import datasets

    kind = name.partition("/")[2]
    if kind not in names():
        raise VptError(f"torchvision has no classification data set {kind!r}: {did_you_mean(kind, names())}")
    constructor = getattr(datasets, kind)
    parameters = inspect.signature(constructor).parameters
    splits: dict[str, TorchvisionSamples] = {}
    classes: list[str] = []
    for split, arguments in _split_arguments(kind, parameters).items():
        more = {"download": download} if "download" in parameters else {}
        try:
            source = constructor(root=data_root(), **arguments, **more)
        except (RuntimeError, OSError, ValueError, ImportError) as error:
            remedy = "say data.download=true" if "download" in parameters and not download else "see its documentation"
            raise VptError(f"{name} could not be had below {data_root()} ({error}): {remedy}.") from error
        labels = _labels(source)
        if labels is not None:
            splits[split] = TorchvisionSamples(source, labels, f"{name} {split}")
        classes = classes or _class_names(source)
    highest = max(max(samples.labels) for samples in splits.values())
    if len(classes) <= highest:
        classes = [str(label) for label in range(highest + 1)]
    return DataSet(name, tuple(classes), splits["train"], splits.get("val"), splits.get("test"))


def names() -> list[str]:
    """Names of torchvision's data sets that give an image and a class."""
    from torchvision import datasets

    found = []
    for name in datasets.__all__:
        kind = getattr(datasets, name)
        if inspect.isclass(kind) and issubclass(kind, datasets.VisionDataset) and name not in NOT_CLASSIFICATION:
            found.append(name)
    return found


# No class for each image; or, of EMNIST and QMNIST, labels that need an argument of their own.
NOT_CLASSIFICATION = frozenset(
    {
        "CarlaStereo", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection", "CREStereo", "DatasetFolder",
        "EMNIST", "ETH3DStereo", "FakeData", "FallingThingsStereo", "Flickr8k", "Flickr30k", "FlyingChairs",
        "FlyingThings3D", "HD1K", "HMDB51", "ImageFolder", "InStereo2k", "Kinetics", "Kitti", "Kitti2012Stereo",
        "Kitti2015Stereo", "KittiFlow", "LFWPairs", "LSUNClass", "Middlebury2014Stereo", "MovingMNIST",
        "PhotoTour", "QMNIST", "SBDataset", "SBU", "SceneFlowStereo", "SintelStereo", "Sintel", "UCF101",
        "VisionDataset", "VOCDetection", "VOCSegmentation", "WIDERFace",
    }
)  # fmt: skip


def _split_arguments(kind: str, parameters: Any) -> dict[str, dict[str, Any]]:
    """Constructor arguments for each of our splits that the data set has."""
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" not in parameters:
        return {"train": {}}
    from torchvision import datasets

    values = _split_values(getattr(datasets, kind), kind)
    chosen = {ours: next((v for v in theirs if v in values), None) for ours, theirs in SPLIT_VALUES.items()}
    return {ours: {"split": value} for ours, value in chosen.items() if value is not None}


def _split_values(constructor: Any, kind: str) -> tuple[str, ...]:
    """The values that `split` takes: torchvision tells them only in the message of a wrong one."""
    try:
        constructor(root=data_root(), split="no such split")
    except ValueError as error:
        return tuple(value for names in SPLIT_VALUES.values() for value in names if f"'{value}'" in str(error))
    except (RuntimeError, OSError, KeyError, AssertionError):
        return ("train", "test")
    raise VptError(f"torchvision/{kind} has splits that are not known: load it yourself and use the Python API.")


def _class_names(source: Any) -> list[str]:
    """The first name of each class, where the data set tells any."""
    names = getattr(source, "classes", None) or getattr(source, "categories", [])
    return [name if isinstance(name, str) else str(name[0]) for name in names]


def _labels(source: Any) -> list[int] | None:
    """Labels without decoding images, by whichever name the data set keeps them; None if they are not published."""
    for attribute in ("targets", "_labels", "labels", "_targets", "y"):
        values = getattr(source, attribute, None)
        if values is not None and len(values) == len(source):
            return None if values[0] is None else [int(value) for value in values]
    for attribute in ("_samples", "samples", "imgs"):
        values = getattr(source, attribute, None)
        if values is not None and len(values) == len(source):
            return [int(row[1]) for row in values]
    return [int(source[i][1]) for i in range(len(source))]
