"""The largest batch that fits: found on memory that is only said to run out."""

import numpy as np
import pytest
import torch
from torch import Tensor

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import vit
from vpt import VptError
from vpt.data.base import Arrays
from vpt.engine.batch import largest_batch

QUIET = {"progress": False, "lr": 0.05}


def images(count: int = 12, side: int = 32) -> Arrays:
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    return Arrays(pixels, [index % 3 for index in range(count)], "noise")


def model(holds: int, method: str = "vpt-deep") -> vpt.Prompted:
    """A model whose memory holds so many images."""
    torch.manual_seed(0)
    made = vpt.attach(vit(), method, num_classes=3)
    embed = made.tower.embed

    def limited(images: Tensor) -> Tensor:
        if len(images) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return embed(images)

    made.tower.embed = limited
    return made


@pytest.mark.parametrize(
    ("holds", "asked", "found"),
    [
        (100, (12, 1), (12, 1)),
        (11, (12, 1), (6, 2)),
        (5, (12, 1), (4, 3)),
        (5, (4, 3), (4, 3)),
        (2, (6, 2), (2, 6)),
        (1, (7, 1), (1, 7)),
    ],
)
def test_it_divides_the_images_of_a_step(holds: int, asked: tuple[int, int], found: tuple[int, int]) -> None:
    size, accumulate = asked
    assert largest_batch(model(holds), images(), batch_size=size, accumulate=accumulate, limit=100, **QUIET) == found


def test_a_limit_is_kept_to_and_few_images_are_taken_again() -> None:
    seen: list[int] = []
    prompted = model(holds=100)
    embed = prompted.tower.embed
    prompted.tower.embed = lambda images: seen.append(len(images)) or embed(images)
    # Of a run that counts steps no more are taken.
    assert largest_batch(prompted, images(5), batch_size=32, limit=20, steps=50, **QUIET) == (16, 2)
    assert seen == [16, 16]


def test_what_is_evaluated_must_fit_too() -> None:
    def found(val: Arrays | None) -> tuple[int, int]:
        made = model(holds=100)
        embed = made.tower.embed

        def limited(images: Tensor) -> Tensor:
            if len(images) > 5 and not torch.is_grad_enabled():
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return embed(images)

        made.tower.embed = limited
        return largest_batch(made, images(), val=val, batch_size=12, limit=12, **QUIET)

    assert found(None) == (12, 1)
    assert found(images(9)) == (4, 3)
    assert found(images(3)) == (12, 1)


def test_the_run_that_it_asks_for_is_the_run_that_was_asked_for() -> None:
    size, accumulate = largest_batch(model(holds=5), images(), batch_size=12, limit=12, **QUIET)
    assert (size, accumulate) == (4, 3)
    whole, parts = (vpt.attach(vit(), num_classes=3).double() for _ in range(2))
    parts.load_tuned_state({name: tensor.clone() for name, tensor in whole.tuned_state().items()})
    samples, transform = images(), whole.preprocessing.transform()
    data = [(transform(samples.image(index)).double(), label) for index, label in enumerate(samples.labels)]
    losses = [
        vpt.fit(each, data, epochs=2, warmup_epochs=0, **QUIET, **sizes).history[0]["train/loss"]
        for each, sizes in ((whole, {"batch_size": 12}), (parts, {"batch_size": size, "accumulate": accumulate}))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, tensor in whole.tuned_state().items():
        torch.testing.assert_close(parts.tuned_state()[name], tensor, rtol=1e-9, atol=1e-12)


def test_what_is_tried_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    largest_batch(model(holds=6), images(), batch_size=12, limit=12, lr=0.05)
    assert capsys.readouterr().err.splitlines() == [
        "vpt: trying 12 of 12 images at once.",
        "vpt: trying 6 of 12 images at once.",
    ]


def test_not_even_one_image() -> None:
    with pytest.raises(VptError, match=r"not even one image at a time fits into memory: set train\.recompute=block"):
        largest_batch(model(holds=0), images(), batch_size=4, limit=4, **QUIET)


def test_a_cpu_is_not_filled() -> None:
    with pytest.raises(VptError, match=r"give the largest batch to try as --max, or run this where a GPU is\."):
        largest_batch(model(holds=100), images(), batch_size=4, **QUIET)


def test_other_mistakes_are_told_as_they_are() -> None:
    with pytest.raises(VptError, match="timm has no optimizer 'sdg'"):
        largest_batch(model(holds=100), images(), batch_size=4, limit=4, optimizer="sdg", **QUIET)


def test_a_loss_of_the_whole_batch_is_not_taken_in_parts() -> None:
    captions = vpt.data.load("scenes", train=4, val=2, test=2, side=24).train
    backbone = vpt.attach(image_text_model(context_length=32), "coop", classes=CLASSES)
    with pytest.raises(VptError, match=r"compares each pair with all others of its batch.+: choose train\.batch_size"):
        largest_batch(backbone, captions, limit=4, **QUIET)


def test_there_must_be_something_to_train() -> None:
    frozen = vpt.attach(image_text_model(), "zero-shot", classes=CLASSES)
    with pytest.raises(VptError, match="zero-shot trains nothing: there is no batch to find for it"):
        largest_batch(frozen, images(side=16), limit=4, **QUIET)
