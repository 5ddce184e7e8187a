"""Prompts in pixels, for any encoder and with three kinds of classifier."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.whole_zoo import SEEN, WHOLE, resnet
from tests.zoo import vit
from vpt import VptError
from vpt.methods.parts.mapping import one_to_one

KINDS = {
    "padding": {"kind": "padding", "size": 3},
    "padding, resized": {"kind": "padding", "size": 3, "resize": True},
    "fixed patch": {"kind": "fixed-patch", "size": 5},
    "random patch": {"kind": "random-patch", "size": 5},
    "low rank": {"kind": "low-rank", "rank": 2},
}


def images(count: int = 3, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def prompted(kind: str = "padding", **options: object) -> vpt.Prompted:
    torch.manual_seed(0)
    return vpt.attach(vit(), "pixel", num_classes=4, **{**KINDS[kind], **options}).double()


def added(model: vpt.Prompted, x: Tensor) -> Tensor:
    return model.method.pixels(x).detach() - x


def test_a_frame_is_added_all_around_and_nothing_inside() -> None:
    model = prompted()
    found = added(model, images())
    assert (found[:, :, 3:-3, 3:-3] == 0).all()
    found[:, :, 3:-3, 3:-3] = 1
    assert (found != 0).all()
    torch.testing.assert_close(found[0], found[1])
    assert model.num_tuned(head=False) == 2 * 3 * 3 * (32 + 32 - 2 * 3)


def test_a_resized_image_stands_inside_its_frame() -> None:
    model, x = prompted("padding, resized"), images()
    inside = model.method.pixels(x).detach()[:, :, 3:-3, 3:-3]
    expected = F.interpolate(x, (26, 26), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(inside, expected)
    frame = added(model, torch.zeros_like(x))
    outside = model.method.pixels(x).detach() - frame
    assert (outside[:, :, :3] == 0).all()


def test_a_patch_stands_in_the_corner_or_where_each_image_draws_it() -> None:
    x = images(64)
    found = added(prompted("fixed patch"), x)
    assert (found[:, :, :5, :5] != 0).all()
    assert found.abs().sum() == pytest.approx(found[:, :, :5, :5].abs().sum())
    model = prompted("random patch")
    where = (added(model.train(), x)[:, 0] != 0).flatten(1)
    assert (where.sum(1) == 25).all()
    corners = where.double().argmax(1)
    assert len(corners.unique()) > 20
    assert (corners % 32 <= 27).all()
    assert (corners // 32 <= 27).all()
    middle = (added(model.eval(), x)[:, 0] != 0).flatten(1).double().argmax(1)
    assert middle.unique().tolist() == [14 * 32 + 14]


def test_a_prompt_of_low_rank_is_nothing_at_first_and_has_that_rank() -> None:
    model = prompted("low rank")
    assert (added(model, images()) == 0).all()
    torch.nn.init.normal_(model.method.added.left)
    found = added(model, torch.zeros(1, 3, 32, 32, dtype=torch.float64))[0]
    assert torch.linalg.matrix_rank(found).tolist() == [2, 2, 2]
    assert model.num_tuned(head=False) == 3 * 2 * (32 + 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["timm resnet", "hub", "hf convnext"])
def test_it_is_for_any_encoder_and_only_it_and_the_head_learn(name: str, kind: str) -> None:
    torch.manual_seed(0)
    options = {"preprocessing": SEEN} if name == "hub" else {"preprocessing": {"size": (32, 32)}}
    model = vpt.attach(WHOLE[name].make(), "pixel", num_classes=4, **KINDS[kind], **options).train()
    before = {key: tensor.clone() for key, tensor in model.frozen_state().items()}
    optimizer = torch.optim.SGD([p for group in model.parameter_groups().values() for p in group], lr=0.1)
    model(images().float()).logsumexp(1).sum().backward()
    moved = [p for p in model.method.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved
    optimizer.step()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.frozen_state().items())
    assert not model.image_is_frozen


@pytest.mark.parametrize("kind", ["padding", "fixed patch", "low rank"])
def test_both_forms_are_the_same(kind: str) -> None:
    model = prompted(kind)
    torch.testing.assert_close(model.features(images()), model.features(images(), plain=True), rtol=1e-10, atol=1e-10)


def test_class_names_are_a_classifier_too() -> None:
    model = vpt.attach(image_text_model(), "pixel", classes=CLASSES, head="text", size=2)
    model.outputs(images(3, 16).float()).logits.sum().backward()
    assert model.method.added.values.grad.abs().sum() > 0
    assert list(model.parameter_groups()) == ["prompts"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_loaded_at_its_size(kind: str, tmp_path: Path) -> None:
    seen = {"size": (24, 40)}
    torch.manual_seed(0)
    model = vpt.attach(resnet(), "pixel", num_classes=4, preprocessing=seen, mapping="random", **KINDS[kind])
    model.save_pretrained(tmp_path / "saved")
    x = torch.randn(2, 3, 24, 40)
    loaded = vpt.load(tmp_path / "saved", backbone=resnet())
    assert torch.equal(loaded(x), model.eval()(x))
    with pytest.raises(VptError, match="for images of 24×40 pixels, and got 32×32"):
        loaded(torch.randn(2, 3, 32, 32))


def test_frequency_maps_each_class_to_what_it_is_taken_for_most_and_no_class_twice() -> None:
    counts = torch.tensor([[5, 9, 0, 0], [4, 8, 0, 0], [0, 7, 0, 6]])
    assert one_to_one(counts).tolist() == [1, 0, 3]
    # Nothing is ever taken for two of them: they get what is left.
    assert sorted(one_to_one(torch.zeros(3, 3, dtype=torch.long)).tolist()) == [0, 1, 2]


def test_a_mapped_classifier_is_the_encoder_s_own() -> None:
    torch.manual_seed(0)
    source = resnet()
    model = vpt.attach(source, "pixel", num_classes=3, preprocessing=SEEN, kind="low-rank", mapping="frequency")
    x = images().float()
    with torch.no_grad():
        own = source(x)
        torch.testing.assert_close(model(x), own[:, model.head.mapping])
        taken_for = own.argmax(1)
    model.method.mapped.look(model.features(x), torch.arange(3))
    expected = one_to_one(F.one_hot(taken_for, 7))
    assert model.head.mapping.tolist() == expected.tolist()
    assert list(model.parameter_groups()) == ["prompts"]


@pytest.mark.parametrize(("mapping", "times"), [("random", 0), ("frequency", 1), ("iterative", 3)])
def test_training_maps_as_often_as_the_paper_does(mapping: str, times: int, tmp_path: Path, monkeypatch) -> None:
    from PIL import Image

    for index in range(6):
        folder = tmp_path / "photos" / "train" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * index, 200 * (index % 2), 90)).save(folder / f"{index}.png")
    data = vpt.data.load("folder", path=str(tmp_path / "photos"))
    model = vpt.attach(resnet(), "pixel", classes=data.classes, preprocessing=SEEN, size=2, mapping=mapping)
    looked: list[Tensor] = []
    look = model.method.mapped.look
    monkeypatch.setattr(model.method.mapped, "look", lambda x, y: looked.append(x) or look(x, y))
    vpt.fit(model, data.train, epochs=3, batch_size=4, lr=0.5, optimizer="sgd", progress=False, workers=0)
    assert len(looked) == times
    assert all(len(each) == len(data.train) for each in looked)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "size=0 and rank=4 must be 1 or more"),
        ({"size": 16}, "size=16 leaves nothing of images of 32×32 pixels"),
        ({"kind": "low-rank", "resize": True}, "kind=low-rank has none"),
        ({"size": 2, "mapping": "frequency"}, "it has no linear classifier of its own"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(vit(num_classes=0), "pixel", num_classes=4, **options)
    if "mapping" in options:
        with pytest.raises(VptError, match="9 classes cannot be mapped: the encoder was trained on 7"):
            vpt.attach(vit(), "pixel", num_classes=9, **options)
