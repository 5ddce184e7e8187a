"""LoRA: against peft's own, its counts, its merging with the weights, and prompts beside it."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import vpt
from tests.zoo import images_for, vit
from vpt.errors import VptError

STAGES = ["q", "k", "v", "o", "up", "down"]


def filled(model: vpt.Prompted) -> vpt.Prompted:
    """The same model, with every zero that was learned from away from it."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def adapted(**options: object) -> vpt.Prompted:
    torch.manual_seed(1)
    return filled(vpt.attach(vit(), "lora", num_classes=3, **options).double())


def test_layers_equal_peft_s_in_values_and_gradients() -> None:
    model = adapted(rank=4, alpha=6.0, stages=["o", "up", "down"], dropout=0.0)
    names = {"o": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}
    config = LoraConfig(r=4, lora_alpha=6, lora_dropout=0.0, target_modules=list(names.values()))
    theirs = get_peft_model(vit().double(), config)
    ours = dict(model.method.named_children())
    with torch.no_grad():
        for layer, block in enumerate(theirs.base_model.model.blocks):
            for stage, name in names.items():
                module = block.get_submodule(name)
                module.lora_A["default"].weight.copy_(ours[f"image_{stage}"].down[layer])
                module.lora_B["default"].weight.copy_(ours[f"image_{stage}"].up[layer])
    images = images_for(model.tower.model)
    expected = theirs.base_model.model.forward_head(theirs.base_model.model.forward_features(images), pre_logits=True)
    found = model.features(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.square().sum().backward()
    expected.square().sum().backward()
    gradient = theirs.base_model.model.blocks[1].mlp.fc1.lora_A["default"].weight.grad
    torch.testing.assert_close(ours["image_up"].down.grad[1], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"stages": STAGES}, {"stages": ["q", "v", "down"], "shared": True}])
def test_merged_weights_give_the_same_features(options: dict[str, object]) -> None:
    model = adapted(**options).eval()
    images = images_for(model.tower.model)
    apart = model.features(images).detach()
    assert not torch.allclose(apart, vpt.attach(vit(), "linear", num_classes=3).double().features(images))
    torch.testing.assert_close(model.compile_prompts().features(images), apart, rtol=0, atol=1e-12)


def test_merged_blocks_are_as_many_products_as_the_backbone_s_own() -> None:
    model = adapted(stages=STAGES).compile_prompts()

    def products(model: vpt.Prompted) -> int:
        with torch.profiler.profile() as profile, torch.no_grad():
            model.features(images_for(model.tower.model))
        names = ("aten::addmm", "aten::mm", "aten::bmm", "aten::linear")
        return sum(event.count for event in profile.key_averages() if event.key in names)

    plain = vpt.attach(vit(), "linear", num_classes=3).double().eval()
    assert products(model) <= products(plain)


def test_prompts_beside_it_are_folded_with_the_changed_weights() -> None:
    torch.manual_seed(2)
    model = filled(vpt.attach(vit(), ["vpt-deep", "lora"], num_classes=3, num_tokens=3).double()).eval()
    images = images_for(model.tower.model)
    found = model.features(images)
    torch.testing.assert_close(found, model.features(images, plain=True), rtol=0, atol=1e-12)
    model.compile_prompts()
    torch.testing.assert_close(model.features(images), found, rtol=0, atol=1e-12)
    assert set(model._folded.attended) == {0, 1, 2}


@pytest.mark.parametrize(("stage", "sizes"), [("o", 24 + 24), ("up", 24 + 96), ("down", 96 + 24)])
def test_count_of_a_stage(stage: str, sizes: int) -> None:
    assert adapted(rank=4, stages=[stage]).num_tuned(head=False) == 3 * 4 * sizes


def test_shared_down_is_one_matrix_a_block() -> None:
    # 12 · (768 · 8 + 3 · 768 · 8) = 294,912 on ViT-B; here 3 blocks of width 24.
    assert adapted(rank=8, stages=["q", "k", "v"], shared=True).num_tuned(head=False) == 3 * (24 * 8 + 3 * 24 * 8)


def test_a_stage_that_is_not_opened_is_told() -> None:
    model = vit(mlp_layer=Other)
    with pytest.raises(VptError, match="lora cannot be added to the first layer of the MLP of block 0"):
        vpt.attach(model, "lora", num_classes=3, stages=["up"])


class Other(nn.Module):
    def __init__(self, in_features: int, hidden_features: int, **options: object) -> None:
        super().__init__()
        self.inner = nn.Linear(in_features, in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)
