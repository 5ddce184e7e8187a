"""The prompted model as its users hold it: modes, counts, predictions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vpt
from tests.text_models import image_text_model
from tests.zoo import vit
from vpt import VptError


def model(method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    return vpt.attach(vit(proj_drop_rate=0.5, drop_path_rate=0.5), method, classes=["ant", "bee", "fly"], **options)


def in_training(prompted: vpt.Prompted) -> set[str]:
    return {name for name, module in prompted.train().tower.named_modules() if module.training}


@pytest.mark.parametrize("method", ["linear", "vpt-shallow", "vpt-deep"])
def test_a_frozen_tower_stays_in_evaluation_mode(method: str) -> None:
    assert in_training(model(method)) == set()
    assert model(method).train().method.training


def test_a_tuned_tower_trains_its_dropout_too() -> None:
    modules = in_training(model("full"))
    assert {"model.blocks.0.attn.proj_drop", "model.blocks.2.drop_path1"} <= modules


def test_frozen_blocks_stay_in_evaluation_mode_beside_tuned_ones() -> None:
    modules = in_training(model("partial-k", k=1))
    assert "model.blocks.2.attn.proj_drop" in modules
    assert not any(name.startswith(("model.blocks.0", "model.blocks.1", "model.patch_embed")) for name in modules)


def test_evaluation_mode_is_evaluation_mode() -> None:
    assert not any(module.training for module in model("full").train().eval().modules())


def test_classes_are_named_or_counted() -> None:
    assert vpt.attach(vit(), num_classes=3).classes == ("0", "1", "2")
    with pytest.raises(VptError, match=r"give classes=\[…\] or num_classes=…"):
        vpt.attach(vit())
    with pytest.raises(VptError, match="num_classes=2, but 3 classes are named"):
        vpt.attach(vit(), classes=["a", "b", "c"], num_classes=2)
    with pytest.raises(VptError, match="two classes are both named 'a'"):
        vpt.attach(vit(), classes=["a", "b", "a"])
    with pytest.raises(VptError, match="a model needs at least one class"):
        vpt.attach(vit(), classes=[])


def test_an_unknown_method_is_told_with_the_near_name() -> None:
    with pytest.raises(VptError, match="there is no method 'vpt-depe': did you mean 'vpt-deep'"):
        vpt.attach(vit(), "vpt-depe", num_classes=2)


def test_predictions_are_probabilities_in_order(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 90).save(tmp_path / "grey.png")
    picture = Image.new("RGBA", (50, 60), (200, 10, 10, 255))
    prompted = model().train()
    single = prompted.predict(tmp_path / "grey.png")
    several = prompted.predict([tmp_path / "grey.png", picture], batch_size=1)
    assert prompted.training
    assert several[0].scores == pytest.approx(single.scores, abs=1e-6)
    assert sum(several[1].scores.values()) == pytest.approx(1)
    assert list(single.scores.values()) == sorted(single.scores.values(), reverse=True)
    assert (single.label, single.score) == next(iter(single.scores.items()))
    with pytest.raises(VptError, match=r"none\.png"):
        prompted.predict(tmp_path / "none.png")


def test_the_head_starts_small_and_without_a_bias() -> None:
    torch.manual_seed(0)
    head = model().head
    assert torch.equal(head.bias, torch.zeros(3))
    assert 0 < head.weight.std() < 0.03


def test_the_head_of_vpts_code_starts_by_the_fan_out_and_a_prior() -> None:
    torch.manual_seed(0)
    head = vpt.attach(vit(), "vpt-deep", num_classes=200, head_init="vpt").head
    assert torch.equal(head.bias, torch.full((200,), -math.log(99)))
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.05)
    with pytest.raises(VptError, match="head_init='vpt': a linear head takes vpt, and class names as classifier take"):
        vpt.attach(image_text_model(), "coop", classes=["ant", "bee"], head_init="vpt")
    with pytest.raises(VptError, match="head_init='fan'"):
        vpt.attach(vit(), num_classes=2, head_init="fan")


@pytest.mark.parametrize("method", ["linear", "zero-shot"])
@pytest.mark.parametrize("images", [np.zeros((1, 3, 16, 16), np.float32), np.zeros((1, 12)), "photo.png", [None]])
def test_images_that_are_no_tensor_are_named(method: str, images: object) -> None:
    made = vpt.attach(image_text_model(), method, classes=["ant", "bee"])
    uses = [made, made.features, made.block_inputs, *([made.outputs] if method == "zero-shot" else [])]
    for use in uses:
        with pytest.raises(TypeError, match=rf"^images is a {type(images).__name__}, and should be a tensor.*predict"):
            use(images)


@pytest.mark.parametrize("ids", [np.zeros((1, 16), np.int64), "an ant", ["an ant"], None])
def test_ids_that_are_no_tensor_are_named(ids: object) -> None:
    made = vpt.attach(image_text_model(), "zero-shot", classes=["ant", "bee"])
    for use in (made.encode_text, made.plan, lambda texts: made.compare(torch.zeros(1, 3, 16, 16), texts)):
        with pytest.raises(TypeError, match=rf"^ids is a {type(ids).__name__}, and should be a tensor.*tokenize"):
            use(ids)


def test_features_of_another_width_are_none_of_the_backbone() -> None:
    with pytest.raises(
        vpt.VptError, match=r"features \(1, 5\) are none of this backbone, which has 24: give \(B, 24\)"
    ):
        model("linear")(torch.zeros(1, 5))


def test_a_head_of_ones_own_that_does_not_fit_is_told_before_it_is_trained() -> None:
    width = vit().num_features
    with pytest.raises(VptError, match=r"head=Linear makes \(2, 5\) .*, and should make \(2, 3\) for 3 classes"):
        model(head=torch.nn.Linear(width, 5))
    with pytest.raises(VptError, match=rf"head=Linear does not take features \(B, {width}\)"):
        model(head=torch.nn.Linear(width + 1, 3))
    assert model(head=torch.nn.Linear(width, 3)).head.training is False


def test_the_number_of_classes_may_be_one_of_numpy() -> None:
    assert vpt.attach(vit(), "linear", num_classes=np.array([0, 2]).max() + 1).classes == ("0", "1", "2")
