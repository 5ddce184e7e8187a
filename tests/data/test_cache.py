"""Images are decoded and resized once; what a transform gives afterwards is bit for bit what it gave before."""

import multiprocessing
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vpt
from tests.zoo import vit
from vpt import VptError
from vpt.data import base, cache
from vpt.data.base import Arrays, Files
from vpt.data.cache import Cached
from vpt.data.loading import loader
from vpt.data.transforms import AUGMENTATIONS, as_transform, augmentation, divided
from vpt.preprocessing import ImageTransform, Preprocessing

SMALL = Preprocessing(size=(16, 16), crop=0.9)
TRANSFORMS: dict[str, Callable[[], ImageTransform]] = {
    **{name: (lambda name=name: augmentation(name, SMALL)) for name in AUGMENTATIONS},
    "squash": Preprocessing(size=(16, 24), crop_mode="squash").transform,
    "border": Preprocessing(size=(16, 16), crop_mode="border").transform,
    "oblong": Preprocessing(size=(16, 24), crop=0.8).transform,
    "a function": lambda: lambda image: torch.tensor([image.width + random.random()]),
}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """JPEGs of several sizes, and an empty folder for the cache."""
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    paths = []
    for index in range(6):
        paths.append(tmp_path / f"{index}.jpg")
        pixels = generator.integers(0, 256, (30 + 3 * index, 40 - index, 3), np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return Files(paths, [0, 1, 0, 1, 0, 1])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every image file that is read."""
    paths: list[Path] = []
    read = base.open_image

    def counting(path: Path) -> Image.Image:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(base, "open_image", counting)
    return paths


def epoch(samples: base.Samples, transform: ImageTransform, number: int = 0, **options: Any) -> Tensor:
    batches = loader(samples, transform, batch_size=4, shuffle=True, seed=3, **options)
    batches.sampler.set_epoch(number)
    return torch.cat([images for images, _ in batches])


def caches(root: Path) -> set[str]:
    return {entry.name for entry in (root / "cache/images").iterdir()}


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_comes_out_is_what_came_out_before(name: str, place: cache.Place, photos: Files) -> None:
    transform = TRANSFORMS[name]()
    kept = Cached(photos, place)
    for number in (0, 1):
        assert torch.equal(epoch(kept, transform, number), epoch(photos, transform, number))


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("augment", ["flip", "crop"])
def test_no_epoch_after_the_first_reads_an_image_file(
    augment: str, place: cache.Place, photos: Files, opened: list[Path]
) -> None:
    kept = Cached(photos, place)
    epoch(kept, augmentation(augment, SMALL))
    assert set(opened) == set(photos.paths)
    opened.clear()
    epoch(kept, augmentation(augment, SMALL), 1)
    assert opened == []


def test_training_reads_every_image_file_once(photos: Files, opened: list[Path]) -> None:
    model = vpt.attach(vit(), "linear", num_classes=2)
    kept = Cached(photos, "disk")
    settings = {"batch_size": 4, "lr": 0.01, "warmup_epochs": 0, "progress": False}
    result = vpt.fit(model, kept, kept, epochs=3, augment="flip", **settings)
    # A few are also looked at for the room that all will take; as many as all where there are few.
    assert len(opened) <= 2 * len(photos)
    again = vpt.fit(vpt.attach(vit(), "linear", num_classes=2), Cached(photos, "disk"), epochs=1, **settings)
    assert len(opened) <= 2 * len(photos)
    assert 0 <= result.history[-1]["data_wait"] <= 1
    assert again.history[0]["epoch"] == 1


def test_a_cache_on_disk_is_made_anew_when_an_image_changes(photos: Files, tmp_path: Path) -> None:
    transform = augmentation("none", SMALL)
    before = epoch(Cached(photos, "disk"), transform)
    Image.new("RGB", (20, 20), "red").save(photos.paths[2])
    after = epoch(Cached(photos, "disk"), transform)
    assert not torch.equal(before, after)
    assert torch.equal(after, epoch(photos, transform))
    assert len(caches(tmp_path)) == 2


def test_each_way_to_resize_has_a_cache_of_its_own_and_augmentations_share_it(photos: Files, tmp_path: Path) -> None:
    for name in ("none", "flip"):
        epoch(Cached(photos, "disk"), augmentation(name, SMALL))
    assert len(caches(tmp_path)) == 1
    epoch(Cached(photos, "disk"), augmentation("resize-crop", SMALL))
    epoch(Cached(photos, "disk"), augmentation("none", Preprocessing(size=(8, 8))))
    epoch(Cached(photos.subset([0, 1]), "disk"), augmentation("none", SMALL))
    assert len(caches(tmp_path)) == 4


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_steps_that_differ_in_what_their_repr_omits_have_caches_of_their_own(place: cache.Place, photos: Files) -> None:
    from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
    from torchvision import transforms as T

    kept = Cached(photos, place)
    ways: list[dict[str, Any]] = [{"fill": 0}, {"fill": 255}, {"padding_mode": "reflect"}, {"fill": 0}]
    for options in ways:
        transform = T.Compose([CenterCropOrPad(60, **options), T.ToTensor()])
        assert torch.equal(epoch(kept, transform), epoch(photos, transform))
    for longest in (0.5, 0.5004):
        transform = T.Compose([ResizeKeepRatio(900, longest=longest), T.CenterCrop(16), T.ToTensor()])
        assert torch.equal(epoch(kept, transform), epoch(photos, transform))


def test_a_backbones_mode_of_training_is_no_other_way_to_resize() -> None:
    from torchvision import transforms as T

    assert cache.recipe_of([T.Resize(16)]) == cache.recipe_of([T.Resize(16).eval()])
    assert cache.recipe_of([T.Resize(16)]) != cache.recipe_of([T.CenterCrop(16)])


def test_few_images_are_decoded_ahead_of_the_one_that_is_written(
    photos: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    many = photos.subset([index % 6 for index in range(60)])
    begun: list[int] = []
    plain = many.image
    monkeypatch.setattr(many, "image", lambda index: (begun.append(index), plain(index))[1])
    images = cache._images(many, [])
    for taken in range(60):
        assert np.array_equal(next(images), np.asarray(plain(taken)))
        assert len(begun) <= taken + cache.AHEAD


def test_a_cache_that_was_broken_off_leaves_nothing(photos: Files, tmp_path: Path) -> None:
    photos.paths[4].write_bytes(b"nonsense")
    with pytest.raises(VptError, match=r"4.jpg is no image that can be read"):
        epoch(Cached(photos, "disk"), augmentation("none", SMALL))
    assert caches(tmp_path) == set()


def test_a_cache_may_be_deleted_and_is_named_when_damaged(photos: Files, tmp_path: Path) -> None:
    transform = augmentation("none", SMALL)
    first = epoch(Cached(photos, "disk"), transform)
    folder = next((tmp_path / "cache/images").iterdir())
    os.truncate(folder / cache.PIXELS, 100)
    with pytest.raises(VptError, match=r"is damaged \(it is cut off\): delete it"):
        epoch(Cached(photos, "disk"), transform)
    whole = (folder / cache.SHAPES).read_bytes()
    others = [np.lib.format.magic(1, 0) + b"\x02\0{\n", whole.replace(b"False", b"False(")]
    for shapes in (*(whole[:size] for size in (0, 5, 60, len(whole) - 1)), *others):
        (folder / cache.SHAPES).write_bytes(shapes)
        with pytest.raises(VptError, match=r"the cache .* is damaged \(.*\): delete it"):
            epoch(Cached(photos, "disk"), transform)
    np.save(folder / cache.SHAPES, np.zeros((0, 2), np.int64))
    with pytest.raises(VptError, match=r"the cache .* is damaged \(.*\): delete it"):
        epoch(Cached(photos, "disk"), transform)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert torch.equal(epoch(Cached(photos, "disk"), transform), first)


def test_processes_that_make_one_cache_at_a_time_do_not_disturb_each_other(photos: Files, tmp_path: Path) -> None:
    transform = augmentation("none", SMALL)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=epoch, args=(Cached(photos, "disk"), transform)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(caches(tmp_path)) == 1
    assert torch.equal(epoch(Cached(photos, "disk"), transform), epoch(photos, transform))


def test_another_process_that_was_first_is_taken(
    photos: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        epoch(Cached(photos, "disk"), augmentation("none", SMALL))
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    kept = epoch(Cached(photos, "disk"), augmentation("none", SMALL))
    assert torch.equal(kept, epoch(photos, augmentation("none", SMALL)))
    assert len(caches(tmp_path)) == 1


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_workers_read_the_cache_too(place: cache.Place, photos: Files, opened: list[Path]) -> None:
    transform = augmentation("shift", SMALL)
    kept = Cached(photos, place)
    here = epoch(kept, transform)
    photos.paths[0].unlink()
    assert torch.equal(epoch(kept, transform, workers=2), here)


def test_a_cache_on_disk_is_sent_to_a_process_as_its_path(photos: Files) -> None:
    kept, _ = Cached(photos, "disk").prepared(augmentation("none", SMALL))
    assert len(pickle.dumps(kept)) < 6 * 16 * 16 * 3


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_what_does_not_fit_is_told_before_it_is_begun(
    place: cache.Place, photos: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    little = type("Room", (), {"free": 1000, "available": 1000})()
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: little)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(VptError, match=rf"data.cache={place} would take 0.0 GB .* 0.0 are free"):
        epoch(Cached(photos, place), augmentation("none", SMALL))


def test_a_place_that_cannot_be_written_to_is_named(
    photos: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "0.jpg"))
    with pytest.raises(VptError, match=r"0.jpg/images cannot hold a cache .*: set VPT_CACHE"):
        epoch(Cached(photos, "disk"), augmentation("none", SMALL))


def test_images_without_files_are_kept_in_memory_only(photos: Files) -> None:
    noise = Arrays(np.zeros((2, 20, 20, 3), np.uint8), [0, 1], "noise")
    with pytest.raises(VptError, match=r"noise\[0\] is no file whose changes could be seen: say data.cache=memory"):
        epoch(Cached(noise, "disk"), augmentation("none", SMALL))
    assert epoch(Cached(noise, "memory"), augmentation("none", SMALL)).shape == (2, 3, 16, 16)


def test_a_data_set_is_cached_where_it_is_loaded(photos: Files, tmp_path: Path) -> None:
    for index, path in enumerate(photos.paths):
        (tmp_path / f"set/{index % 2}").mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / f"set/{index % 2}" / path.name)
    for place, cached in (("none", []), ("memory", ["train", "val"]), ("disk", ["train", "val", "test"])):
        data = vpt.data.load("folder", path=tmp_path / "set", cache=place)
        assert [name for name, samples in data.splits().items() if isinstance(samples, Cached)] == cached
        assert data.facts() == vpt.data.load("folder", path=tmp_path / "set").facts()
    digits = vpt.data.load("digits", cache="disk")
    assert isinstance(digits.train, Arrays)


@pytest.mark.parametrize(
    ("name", "count"), [("none", 2), ("flip", 2), ("shift", 1), ("resize-crop", 1), ("crop", 0), ("randaugment", 0)]
)
def test_only_steps_before_the_first_random_one_are_still(name: str, count: int) -> None:
    assert len(divided(augmentation(name, SMALL))[0]) == count


def test_a_random_resize_is_not_still() -> None:
    from timm.data.transforms import ResizeKeepRatio
    from torchvision import transforms as T

    for step in (ResizeKeepRatio(16, random_scale_prob=0.5), ResizeKeepRatio(16, interpolation="random")):
        assert divided(T.Compose([step, T.CenterCrop(16)]))[0] == []
    assert divided(as_transform(T.Resize(16), SMALL))[0] != []


def test_other_labels_for_the_same_images(photos: Files) -> None:
    data = vpt.data.DataSet("photos", ("ant", "bee"), Cached(photos, "disk")).with_classes([1])
    assert isinstance(data.train, Cached)
    _, labels = next(iter(loader(data.train, SMALL.transform(), batch_size=6)))
    assert labels.tolist() == [0, 0, 0]
    assert [data.train.name(i) for i in range(3)] == [photos.name(i) for i in (1, 3, 5)]
