"""Several runs in one pass: each comes to what it would have come to alone."""

import copy
import math

import numpy as np
import pytest
import torch

import vpt
from tests.text_models import CLASSES, image_text_model
from vpt.data.base import Arrays
from vpt.engine.folded import fit_many
from vpt.engine.record import FitResult
from vpt.errors import DivergedError

LRS, SEEDS = [0.5, 0.05, 0.5], [0, 0, 4]
QUIET = {"epochs": 3, "batch_size": 4, "progress": False}


def noise(count: int, seed: int) -> Arrays:
    images = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return Arrays(images, [i % len(CLASSES) for i in range(count)], "noise")


TRAIN, VAL = noise(10, 1), noise(6, 2)


def models(method: str = "coop", **options: object) -> list[vpt.Prompted]:
    backbone, made = image_text_model().double(), []
    for seed in SEEDS:
        torch.manual_seed(seed)
        made.append(vpt.attach(backbone, method, classes=CLASSES, **{"num_tokens": 3, **options}).double())
    return made


def alone(made: list[vpt.Prompted], **options: object) -> list[FitResult]:
    return [
        vpt.fit(model, TRAIN, VAL, lr=lr, seed=seed, **{**QUIET, **options})
        for model, lr, seed in zip(made, LRS, SEEDS, strict=True)
    ]


def assert_same(found: vpt.Prompted, expected: vpt.Prompted) -> None:
    for name, tensor in expected.tuned_state().items():
        torch.testing.assert_close(found.tuned_state()[name], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": "coop", "optimizer": "adamw", "keep": "last"},
        {"augment": "flip", "views": 2, "label_smoothing": 0.1},
    ],
    ids=["sgd", "adamw", "views"],
)
def test_each_run_comes_to_what_it_comes_to_alone(options: dict[str, object]) -> None:
    together, one_by_one = models(), models()
    results = fit_many(together, TRAIN, VAL, lrs=LRS, seeds=SEEDS, **{**QUIET, **options})
    for result, expected in zip(results, alone(one_by_one, **options), strict=True):
        assert isinstance(result, FitResult)
        assert result.best_epoch == expected.best_epoch
        assert [row["step"] for row in result.history] == [row["step"] for row in expected.history]
        for key in ("train/loss", "val/loss", "val/top1", "lr/prompts"):
            assert [row[key] for row in result.history] == pytest.approx([row[key] for row in expected.history])
    for found, expected in zip(together, one_by_one, strict=True):
        assert_same(found, expected)
        assert not found.training
    assert not torch.equal(together[0].method.values, together[1].method.values)


@pytest.mark.parametrize("options", [{"csc": True}, {"position": "front"}], ids=["csc", "front"])
def test_context_of_its_own_for_each_class_or_behind_the_name_goes_together_too(options: dict[str, object]) -> None:
    together, one_by_one = models(**options), models(**options)
    fit_many(together, TRAIN, lrs=LRS, seeds=SEEDS, **QUIET)
    for model, lr, seed in zip(one_by_one, LRS, SEEDS, strict=True):
        vpt.fit(model, TRAIN, lr=lr, seed=seed, **QUIET)
    for found, expected in zip(together, one_by_one, strict=True):
        assert_same(found, expected)


def test_a_run_that_diverges_leaves_the_others_alone() -> None:
    together, expected = models(), models()[2]
    results = fit_many(together, TRAIN, lrs=[0.5, math.inf, 0.5], seeds=SEEDS, **QUIET)
    assert [type(result) for result in results] == [FitResult, DivergedError, FitResult]
    vpt.fit(expected, TRAIN, lr=0.5, seed=4, **QUIET)
    assert_same(together[2], expected)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("cocoop", {}, "cocoop does more than to learn text prompts"),
        ("maple", {"num_tokens": None, "num_context": 2}, "maple does more"),
        ("prograd", {"num_tokens": 4}, "prograd trains no text prompts, or by more than cross entropy"),
        ("coop", {"learn_scale": True}, "they learn the scale"),
    ],
)
def test_what_cannot_go_together_is_refused(method: str, options: dict[str, object], message: str) -> None:
    backbone = image_text_model()
    given = {name: value for name, value in options.items() if value is not None}
    made = [vpt.attach(backbone, method, classes=CLASSES, **given) for _ in SEEDS]
    with pytest.raises(vpt.VptError, match=message):
        fit_many(made, TRAIN, lrs=LRS, seeds=SEEDS, **QUIET)


def test_models_of_several_backbones_or_without_rates_are_refused() -> None:
    made = [vpt.attach(image_text_model(), "coop", classes=CLASSES) for _ in SEEDS]
    with pytest.raises(vpt.VptError, match=r"make them by vpt\.attach on one backbone"):
        fit_many(made, TRAIN, lrs=LRS, seeds=SEEDS)
    with pytest.raises(vpt.VptError, match="3 models, 2 lrs and 3 seeds"):
        fit_many(made, TRAIN, lrs=LRS[:2], seeds=SEEDS)
    other = copy.deepcopy(made[0])
    other.text, other.classes = made[0].text, ("cat",)
    with pytest.raises(vpt.VptError, match="their classes or numbers of context tokens differ"):
        fit_many([made[0], other], TRAIN, lrs=LRS[:2], seeds=SEEDS[:2])
