"""A frozen backbone held in half precision by name: in Python, in a config, and from what was saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vpt
from tests.engine.test_fit import QUIET
from vpt import VptError, build, config, experiment
from vpt.data.base import Arrays
from vpt.methods import available


def made(dtype: str = "bf16", name: str = "vpt/vit-nano", method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    torch.manual_seed(0)
    return vpt.create(name, method, num_classes=None if "classes" in options else 3, dtype=dtype, **options)


def images() -> torch.Tensor:
    return torch.randn(2, 3, *made("fp32").preprocessing.size, generator=torch.Generator().manual_seed(1))


def test_what_is_frozen_is_held_in_half_and_what_is_learned_is_not() -> None:
    model = made()
    assert {p.dtype for p in model.tower.parameters()} == {torch.bfloat16}
    learned = model.parameter_groups()
    assert {p.dtype for group in learned.values() for p in group} == {torch.float32}
    full = made("fp32")(images())
    torch.testing.assert_close(model(images()), full, rtol=0, atol=0.1 * full.abs().max().item())


def test_both_towers_of_an_image_text_model_are() -> None:
    model = made(name="vpt/clip-nano", method="coop", classes=["a", "b"], num_tokens=2)
    towers = (model.tower, model.text.tower)
    assert {p.dtype for tower in towers for p in tower.parameters()} == {torch.bfloat16}
    assert model.text.logit_scale.dtype == torch.float32


def test_it_is_loaded_as_it_was_trained_or_as_asked_for(tmp_path: Path) -> None:
    model = made()
    model.save_pretrained(tmp_path / "half")
    loaded = vpt.load(tmp_path / "half")
    assert torch.equal(loaded(images()), model.eval()(images()))
    assert {p.dtype for p in vpt.load(tmp_path / "half", dtype="fp32").tower.parameters()} == {torch.float32}
    made("fp32").save_pretrained(tmp_path / "full")
    assert {p.dtype for p in vpt.load(tmp_path / "full").tower.parameters()} == {torch.float32}
    assert vpt.load(tmp_path / "full", dtype="bf16").tower.dtype == torch.bfloat16
    loaded.save_pretrained(tmp_path / "again")
    assert vpt.load(tmp_path / "again").tower.dtype == torch.bfloat16


CLASSES = ["square", "circle", "star"]
TRAIN_THE_BACKBONE = {"full", "bias", "norm", "partial-k", "prolip", "2sfs"}


def pairs(count: int) -> Arrays:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Arrays(pixels, [index % 3 for index in range(count)], "noise").named(CLASSES)


@pytest.mark.parametrize("method", [method for method in available() if method not in TRAIN_THE_BACKBONE])
def test_each_method_trains_and_is_tested_on_it(method: str) -> None:
    """On features that are kept in full precision, where it leaves images as they are."""
    options = {"size": 4} if method == "pixel" else {}
    model = made(name="vpt/clip-nano", method=method, classes=CLASSES, **options)
    if model.method.classifier.needs_teacher:
        model.teach(made(name="vpt/clip-nano", method="zero-shot", classes=CLASSES))
    result = vpt.fit(model, pairs(12), val=pairs(6), **{**QUIET, "epochs": 1, "batch_size": 4})
    assert all(np.isfinite(value) for value in result.history[-1].values())
    assert np.isfinite(vpt.evaluate(model, pairs(6))["loss"])


def test_features_that_are_kept_say_what_images_do() -> None:
    model = made(name="vpt/clip-nano", method="coop", classes=CLASSES)
    images = torch.randn(2, 3, *model.preprocessing.size)
    kept = model.kept(images).float()
    assert torch.equal(model(kept), model(images))


@pytest.mark.parametrize("method", ["full", "bias", "partial-k"])
def test_what_is_trained_cannot_be_held_in_half(method: str) -> None:
    with pytest.raises(VptError, match=f"dtype=bf16 holds what is frozen, and {method} trains the backbone: leave it"):
        made(method=method)


def test_there_are_two_precisions(tmp_path: Path) -> None:
    with pytest.raises(VptError, match=r"dtype='fp8' is not one of fp32, bf16\."):
        made("fp8")
    made().save_pretrained(tmp_path / "saved")
    with pytest.raises(VptError, match=r"dtype='fp8' is not one of fp32, bf16\."):
        vpt.load(tmp_path / "saved", dtype="fp8")


def checked(**changes: object) -> config.Config:
    values = {"backbone": "vpt/vit-nano", "method": "vpt-deep", "data": "digits", **changes}
    return build.check(config.parse(values))


def test_a_config_asks_for_it_of_any_library() -> None:
    asked = checked(backbone={"name": "hf/google/vit-base-patch16-224-in21k", "dtype": "bf16"})
    assert asked.backbone["dtype"] == "bf16"
    half = checked(backbone={"name": "vpt/vit-nano", "dtype": "bf16"})
    assert build.build_model(half, build.read_data(half)).tower.dtype == torch.bfloat16
    with pytest.raises(VptError, match=r"backbone\.dtype='fp8' will not do"):
        checked(backbone={"name": "vpt/vit-nano", "dtype": "fp8"})


def test_a_run_may_go_on_with_other_switches_but_not_in_another_precision(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.plain(checked())))
    experiment.check_unchanged(checked(train={"compile": True, "recompute": "block"}), tmp_path)
    with pytest.raises(VptError, match=r"backbone\.dtype was not set and is bf16"):
        experiment.check_unchanged(checked(backbone={"name": "vpt/vit-nano", "dtype": "bf16"}), tmp_path)
