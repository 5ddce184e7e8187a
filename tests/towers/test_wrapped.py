"""Models inside others, and models that a constructor made."""

from pathlib import Path

import peft
import pytest
import torch
import torch.distributed as dist
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import vpt
from tests.zoo import SMALL, images_for, timm_features, vit
from vpt import VptError
from vpt.towers.load import wrap

WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": nn.DataParallel,
    "compiled and parallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_model_inside_is_opened(wrapper: str) -> None:
    model = vit()
    tower = wrap(WRAPPERS[wrapper](model)).tower
    assert [tower.path(layer).startswith("opened") for layer in range(3)] == [True] * 3
    with torch.no_grad():
        assert torch.equal(tower.features(images_for(model)), timm_features(model, images_for(model)))


def test_the_model_inside_distributed_data_parallel_is_opened(tmp_path: Path) -> None:
    model = vit()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        prompted = vpt.attach(nn.parallel.DistributedDataParallel(model), "vpt-deep", num_tokens=2, num_classes=3)
    finally:
        dist.destroy_process_group()
    assert prompted.tower.path(0).startswith("opened")
    assert prompted(images_for(model)).shape == (3, 3)


def with_lora() -> nn.Module:
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["qkv", "fc1"], r=2, init_lora_weights=False, lora_dropout=0.3)
    return peft.get_peft_model(vit(), config)


def test_low_rank_adapters_of_peft_are_part_of_the_frozen_model(tmp_path: Path) -> None:
    model = with_lora().double()
    prompted = vpt.attach(model, "vpt-deep", num_tokens=2, num_classes=3)
    prompted.double().train()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    fast, plain = prompted.features(images), prompted.features(images, plain=True)
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)
    without = vpt.attach(vit(), "linear", num_classes=3).double()
    expected = timm_features(model.get_base_model().eval(), images)
    torch.testing.assert_close(vpt.attach(model, "linear", num_classes=3).features(images), expected)
    assert (without.features(images) - expected).abs().max() > 1e-3
    assert not any(p.requires_grad for p in prompted.tower.parameters())
    prompted.save_pretrained(tmp_path / "saved")
    assert torch.equal(
        vpt.load(tmp_path / "saved", backbone=with_lora().double()).double()(images), prompted.eval()(images)
    )
    with pytest.raises(VptError, match="was saved with a backbone that has no name: pass it as backbone="):
        vpt.load(tmp_path / "saved")


class Own(VisionTransformer):
    """As people write them."""


@pytest.mark.parametrize("kind", [VisionTransformer, Own])
def test_a_model_of_a_constructor_is_opened_and_told_to_be_without_facts(kind: type, capsys) -> None:
    sizes = {key: value for key, value in SMALL.items() if key != "num_classes"}
    made = vpt.attach(kind(**sizes), "vpt-deep", num_tokens=2, num_classes=3)
    assert "of timm does not say what images it was trained on: size 32, mean (0.485" in capsys.readouterr().err
    assert made.preprocessing.crop == 1.0
    assert made.tower.path(0).startswith("opened")
    assert made(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    given = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    vpt.attach(kind(**sizes), "linear", num_classes=3, preprocessing=given)
    assert capsys.readouterr().err == ""


def test_a_network_of_a_constructor_serves_whole() -> None:
    from timm.models.resnet import BasicBlock, ResNet

    made = vpt.attach(ResNet(BasicBlock, (1, 1, 1, 1), channels=(8, 8, 8, 8)), "linear", num_classes=3)
    assert made.tower.num_features == 8
