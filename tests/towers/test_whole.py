"""Encoders that are not opened: their library's own features, and every method that does not enter them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vpt
from tests.text_models import CLASSES
from tests.whole_zoo import SEEN, WHOLE, Hub, clip_resnet, convnext, resnet
from tests.zoo import Example, shaken
from vpt import VptError
from vpt.towers.load import wrap
from vpt.towers.whole import WholeTower

IMAGE_METHODS = {"linear": {}, "bias": {}, "partial-k": {"k": 2}, "full": {}}
TEXT_METHODS = (
    "zero-shot",
    "coop",
    "cocoop",
    "kgcoop",
    "prograd",
    "linear-text",
    "tip-adapter",
    "tip-adapter-f",
    "clip-adapter",
)


@pytest.fixture(params=WHOLE, ids=list(WHOLE))
def whole(request: pytest.FixtureRequest) -> Example:
    return WHOLE[request.param]


def attached(example: Example, method: str = "linear", **options: object) -> vpt.Prompted:
    seen = {**SEEN, "size": example.size}
    return vpt.attach(example.make(), method, num_classes=5, preprocessing=seen, head="linear", **options)


def test_features_are_the_library_s_own_bit_by_bit(whole: Example) -> None:
    images = whole.images(dtype=torch.float32)
    model = attached(whole)
    assert isinstance(model.tower, WholeTower)
    with torch.no_grad():
        found = model.features(images)
        assert torch.equal(found, whole.features(whole.make(), images))
        assert torch.equal(found, model.features(images, plain=True))
    assert found.shape[1] == model.tower.num_features


@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_what_a_method_trains_changes_and_all_else_stays(whole: Example, method: str) -> None:
    torch.manual_seed(0)
    model = attached(whole, method, **IMAGE_METHODS[method]).train()
    frozen = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    before = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
    optimizer = torch.optim.SGD([p for group in model.parameter_groups().values() for p in group], lr=0.1)
    model(whole.images(dtype=torch.float32)).logsumexp(-1).sum().backward()
    optimizer.step()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.frozen_state().items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.tuned_state().items())
    assert bool(model.parameter_groups().get("backbone")) == (method != "linear")


def test_the_last_blocks_are_those_that_run_last() -> None:
    tower = wrap(resnet()).tower
    assert tower.depth == 5
    assert tower.block(4) is tower.model.layer4[1]
    tuned = {name for name, p in attached(WHOLE["timm resnet"], "partial-k").named_parameters() if p.requires_grad}
    assert {name for name in tuned if not name.startswith("head.")} == {
        f"tower.model.layer4.1.{name}" for name, _ in tower.model.layer4[1].named_parameters()
    }
    tower = wrap(convnext()).tower
    assert [tower.block(layer) for layer in range(5)] == [b for stage in tower.model.stages for b in stage.blocks]
    tuned = {name for name, p in attached(WHOLE["timm convnext"], "partial-k").named_parameters() if p.requires_grad}
    assert {"tower.model.head.norm.weight", "tower.model.stages.3.blocks.0.mlp.fc1.bias"} < tuned
    assert not any("stages.2" in name or "stages.3.downsample" in name for name in tuned)


@pytest.mark.parametrize("name", ["hf resnet", "hf convnext", "torchvision convnext", "open_clip resnet", "hub"])
def test_blocks_are_found_in_every_layout(name: str) -> None:
    kinds = [
        type(attached(WHOLE[name]).tower.block(layer)).__name__ for layer in range(attached(WHOLE[name]).tower.depth)
    ]
    assert (
        kinds
        == {
            "hf resnet": ["ResNetBasicLayer"] * 3,
            "hf convnext": ["ConvNextLayer"] * 3,
            "torchvision convnext": ["CNBlock"] * 3,
            "open_clip resnet": ["Bottleneck"] * 4,
            "hub": ["Residual"] * 2,
        }[name]
    )


def test_a_method_that_enters_is_refused_with_the_part_the_reason_and_what_works() -> None:
    with pytest.raises(VptError) as raised:
        vpt.attach(resnet(), "vpt-deep", num_classes=2)
    sentence = str(raised.value)
    assert (
        "vpt-deep cannot be used with timm/resnet18.a1_in1k: its prompts enter the blocks of the image encoder"
        in sentence
    )
    assert "ResNet is none of timm's VisionTransformer, Eva, " in sentence
    assert sentence.endswith("What works with it: bias, full, linear, norm, partial-k, pixel.")
    with pytest.raises(VptError, match=r"clip-lora cannot be used with this model.*What works with it: .*coop,.* full"):
        vpt.attach(clip_resnet(), "clip-lora", classes=CLASSES, preprocessing={**SEEN, "size": (64, 64)})
    with pytest.raises(VptError, match=r"^k=9: the backbone has 1 to 5 blocks"):
        vpt.attach(resnet(), "partial-k", num_classes=2, k=9)
    with pytest.raises(VptError, match="between the blocks of this encoder: ResNet"):
        vpt.attach(resnet(), "linear", num_classes=2).block_inputs(torch.zeros(1, 3, 32, 32))


def text_values(model: vpt.Prompted, images: Tensor, plain: bool) -> list[Tensor]:
    outputs = model.outputs(images, plain=plain)
    learned = [p for group in model.parameter_groups().values() for p in group]
    loss = nn.functional.cross_entropy(outputs.logits, torch.tensor([0, 1, 2]))
    gradients = torch.autograd.grad(loss, learned, allow_unused=True) if learned else ()
    return [outputs.logits, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_methods_of_texts_learn_on_a_resnet_as_their_definition_says(method: str) -> None:
    torch.manual_seed(0)
    model = vpt.attach(clip_resnet(), method, classes=CLASSES, preprocessing={**SEEN, "size": (64, 64)}).double()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    if model.method.classifier.needs_features:
        with torch.no_grad():
            image = nn.functional.normalize(model.features(images), dim=-1)
            labels = torch.tensor([0, 1, 2])
            model.method.classifier.prepare(image, labels, model.class_features(), model.text.scale())
    model.train()
    for fast, plain in zip(text_values(model, images, False), text_values(model, images, True), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)


def test_a_saved_model_is_loaded_by_name_and_with_a_live_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    named = vpt.create("timm/resnet10t", "partial-k", num_classes=3, pretrained=False, image_size=32)
    assert named.preprocessing.size == (32, 32)
    named.save_pretrained(tmp_path / "named")
    with pytest.raises(VptError, match="was trained with timm/resnet10t of fingerprint"):
        vpt.load(tmp_path / "named")
    live = vpt.attach(shaken(Hub), "bias", num_classes=3, preprocessing=SEEN)
    live.save_pretrained(tmp_path / "live")
    images = torch.randn(2, 3, 32, 32)
    loaded = vpt.load(tmp_path / "live", backbone=shaken(Hub))
    assert torch.equal(loaded(images), live(images))
    assert loaded.preprocessing == live.preprocessing


def test_trained_statistics_of_batch_norm_are_saved(tmp_path: Path) -> None:
    model = vpt.attach(resnet(), "full", num_classes=3).train()
    model(torch.randn(4, 3, 32, 32))
    model.eval().save_pretrained(tmp_path / "full")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(vpt.load(tmp_path / "full", backbone=resnet(), any_backbone=True)(images), model(images))


def test_frozen_batch_norm_does_not_see_the_batch() -> None:
    model = vpt.attach(resnet(), "linear", num_classes=3).train()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


class Placed(Hub):
    """With positions before the first convolution, as VOLO keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 14, 14, 3))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.positions.mean((1, 2))


def test_positions_that_stand_before_the_first_convolution_are_no_channels() -> None:
    assert next(Placed().parameters()).shape == (1, 14, 14, 3)
    assert vpt.attach(Placed(), "linear", num_classes=2, preprocessing=SEEN).tower.channels == 3


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def test_a_module_of_no_library_says_what_it_lacks() -> None:
    with pytest.raises(VptError, match=r"a Hub does not say .*: give preprocessing=\{…\} with size, mean, std"):
        vpt.attach(Hub(), "linear", num_classes=2)
    with pytest.raises(VptError, match=r"with std\.$"):
        vpt.attach(Hub(), "linear", num_classes=2, preprocessing={"size": (32, 32), "mean": [0.5] * 3})
    with pytest.raises(VptError, match=r"Pyramid makes \(1, 4, 32, 32\) of images .*a module that pools"):
        vpt.attach(Pyramid(), "linear", num_classes=2, preprocessing=SEEN)
    with pytest.raises(VptError, match="this Identity has no weights"):
        vpt.attach(nn.Identity(), "linear", num_classes=2, preprocessing=SEEN)


def test_images_that_an_encoder_cannot_take_are_told_in_a_sentence() -> None:
    model = vpt.attach(clip_resnet(), "zero-shot", classes=CLASSES, preprocessing={**SEEN, "size": (64, 64)})
    with pytest.raises(VptError, match="takes images of 64×64 pixels and got 32×32"):
        model.features(torch.zeros(1, 3, 32, 32))


def test_the_model_that_was_given_keeps_its_classifier() -> None:
    model = resnet()
    attached = vpt.attach(model, "linear", num_classes=2)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert not any(name.startswith("tower.model.fc") for name in attached.state_dict())
