"""Batches: order and augmentation are functions of seed and epoch, whatever the number of workers."""

import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vpt import VptError
from vpt.data.base import Arrays, Files
from vpt.data.loading import Transformed, loader, mix
from vpt.data.pairs import SamplePairs
from vpt.data.transforms import as_transform, augmentation
from vpt.preprocessing import ImageTransform, Preprocessing

SMALL = Preprocessing(size=(16, 16))
SAMPLES = Arrays(np.random.default_rng(0).integers(0, 256, (10, 20, 20, 3), np.uint8), list(range(10)), "noise")


def from_albumentations() -> ImageTransform:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import albumentations as A
    return as_transform(A.RandomResizedCrop((16, 16)), SMALL)


def draw_from_everything(image: Image.Image) -> Tensor:
    return torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(()))])


TRANSFORMS = {
    "crop": augmentation("crop", SMALL),
    "randaugment": augmentation("randaugment", SMALL),
    "every generator": draw_from_everything,
}


def epoch_of(transform: ImageTransform, epoch: int, workers: int = 0, seed: int = 3) -> tuple[Tensor, Tensor]:
    batches = loader(SAMPLES, transform, batch_size=4, shuffle=True, seed=seed, workers=workers)
    batches.sampler.set_epoch(epoch)
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("name", [*TRANSFORMS, "albumentations"])
def test_an_epoch_is_the_same_again_and_no_two_epochs_are(name: str) -> None:
    transform = TRANSFORMS.get(name) or from_albumentations()
    images, labels = epoch_of(transform, 0)
    again, _ = epoch_of(transform, 0)
    later, later_labels = epoch_of(transform, 1)
    assert torch.equal(images, again)
    assert labels.tolist() != later_labels.tolist()
    assert sorted(labels.tolist()) == list(range(10))
    assert not torch.equal(images[labels.argsort()], later[later_labels.argsort()])
    if name == "every generator":
        assert len({tuple(row) for row in images.tolist()}) == 10


@pytest.mark.parametrize("name", ["every generator", "albumentations"])
def test_workers_change_nothing(name: str) -> None:
    transform = TRANSFORMS.get(name) or from_albumentations()
    assert torch.equal(epoch_of(transform, 2)[0], epoch_of(transform, 2, workers=2)[0])


def test_the_callers_own_generators_are_left_as_they_were() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    epoch_of(draw_from_everything, 0)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_a_dataset_of_pairs_is_taken_as_it_is() -> None:
    pairs = [(torch.full((3, 16, 16), float(i)), i) for i in range(3)] + [(SAMPLES.image(0), 3)]
    images, labels = next(iter(loader(pairs, SMALL.transform(), batch_size=4)))
    assert images.shape == (4, 3, 16, 16)
    assert labels.tolist() == [0, 1, 2, 3]
    assert images[2, 0, 0, 0] == 2


PAIRS = SamplePairs(SAMPLES, [[f"{i} {said}" for said in range(1 + i % 5)] for i in range(10)])


def digits(captions: list[str]) -> Tensor:
    """A tokenizer: each caption's two numbers."""
    return torch.tensor([[int(word) for word in caption.split()] for caption in captions])


def captions_of(epoch: int, workers: int = 0, seed: int = 3) -> dict[int, int]:
    """Which caption each image came with."""
    batches = loader(PAIRS, SMALL.transform(), batch_size=4, shuffle=True, seed=seed, workers=workers, tokenize=digits)
    batches.sampler.set_epoch(epoch)
    return {image: said for _, ids in batches for image, said in ids.tolist()}


def test_pairs_give_images_and_token_ids() -> None:
    images, ids = next(iter(loader(PAIRS, SMALL.transform(), batch_size=4, tokenize=digits)))
    assert images.shape == (4, 3, 16, 16)
    assert ids.tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]


def test_pairs_without_a_tokenizer_give_their_first_captions() -> None:
    _, captions = next(iter(loader(PAIRS, SMALL.transform(), batch_size=3)))
    assert list(captions) == ["0 0", "1 0", "2 0"]


def test_each_epoch_draws_a_caption_of_every_image_by_seed_epoch_and_index() -> None:
    epochs = [captions_of(epoch) for epoch in range(40)]
    for image in range(10):
        assert {drawn[image] for drawn in epochs} == set(range(1 + image % 5))
    assert epochs[1] == captions_of(1) != captions_of(1, seed=4)


def test_workers_change_no_caption() -> None:
    assert captions_of(2) == captions_of(2, workers=2)


def test_the_caption_that_is_drawn_does_not_change_the_augmentation() -> None:
    batches = loader(PAIRS, draw_from_everything, batch_size=10, shuffle=True, seed=3, tokenize=digits)
    assert torch.equal(next(iter(batches))[0], epoch_of(draw_from_everything, 0)[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_on_the_way_is_named(workers: int, tmp_path: pytest.TempPathFactory) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nonsense")
    with pytest.raises(VptError, match=r"bad.jpg is no image that can be read"):
        list(loader(Files([tmp_path / "bad.jpg"], [0]), SMALL.transform(), batch_size=1, workers=workers))


def test_what_worker_processes_cannot_be_given_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpt.data.loading.get_start_method", lambda: "spawn")
    with pytest.raises(VptError, match=r"at the top of a module and not as a lambda, or say workers=0"):
        loader(SAMPLES, lambda image: torch.zeros(3, 16, 16), batch_size=4, workers=1)
    loader(SAMPLES, TRANSFORMS["crop"], batch_size=4, workers=1)
    loader(SAMPLES, lambda image: torch.zeros(3, 16, 16), batch_size=4)


def test_worker_processes_know_the_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    batches = loader(SAMPLES, SMALL.transform(), batch_size=4, workers=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    batches.worker_init_fn(0)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_an_image_that_cannot_be_transformed_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (1, 300)).save(tmp_path / "line.png")
    bordered = Preprocessing(size=(16, 16), crop_mode="border").transform()
    with pytest.raises(VptError, match=r"line.png, of 1 × 300 pixels, cannot be transformed .*: remove it, or crop it"):
        list(loader(Files([tmp_path / "line.png"], [0]), bordered, batch_size=1))


@pytest.mark.parametrize("kind", ["samples", "pairs", "captions as they are"])
def test_features_that_are_known_are_picked_for_a_batch_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are those of each image by itself, by view and epoch, with what is said of it."""
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 3, "features": torch.randn(2, 10, 5)}
    source = SAMPLES if kind == "samples" else PAIRS
    options |= {"tokenize": digits} if kind == "pairs" else {}

    def epoch(number: int, workers: int = 0) -> list[tuple[Any, ...]]:
        batches = loader(source, SMALL.transform(), workers=workers, **options)
        batches.sampler.set_epoch(number)
        return [tuple(torch.as_tensor(each) if kind == "pairs" else each for each in batch) for batch in batches]

    def alike(first: Any, second: Any) -> bool:
        return torch.equal(first, second) if isinstance(first, Tensor) else tuple(first) == tuple(second)

    together = [epoch(0), epoch(1), epoch(2), epoch(2, workers=2)]
    monkeypatch.setattr(Transformed, "__getitems__", lambda self, indices: [self[index] for index in indices])
    for number, found in zip((0, 1, 2, 2), together, strict=True):
        for batch, expected in zip(found, epoch(number), strict=True):
            assert len(batch) == len(expected) == 2
            assert all(map(alike, batch, expected))
    assert not alike(together[0][0][0], together[2][0][0])


def test_near_numbers_give_seeds_that_have_nothing_in_common() -> None:
    assert len({mix(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900
