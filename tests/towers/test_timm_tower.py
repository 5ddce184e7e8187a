"""timm's models by name and in hand, and what is said of those that cannot be had."""

import copy
import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import vpt
from tests.tower_zoo import FAMILIES
from tests.zoo import images_for, vit
from vpt import VptError
from vpt.towers.load import load, names, wrap

TINY = {"pretrained": False, "depth": 2, "embed_dim": 12, "num_heads": 2}


def test_a_live_model_keeps_its_classifier_and_shares_its_weights() -> None:
    model = vit()
    before = model(images_for(model))
    tower = wrap(model).tower
    assert torch.equal(model(images_for(model)), before)
    assert tower.model.blocks[0].mlp.fc1.weight is model.blocks[0].mlp.fc1.weight
    assert not any(name.startswith("model.head") for name, _ in tower.named_parameters())


def test_image_size_resamples_position_embeddings() -> None:
    tower = load("timm/vit_tiny_patch16_224", image_size=64, **TINY).tower
    assert tower.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 17, 12)


def test_preprocessing_is_what_the_model_was_trained_with() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224.augreg_in21k")
    preprocessing = wrap(model).preprocessing
    assert preprocessing.mean == (0.5, 0.5, 0.5)
    assert preprocessing.size == (224, 224)
    assert preprocessing.crop == 0.9


def test_a_model_from_scratch_sees_the_whole_image() -> None:
    assert load("timm/vit_tiny_patch16_224.augreg_in21k", **TINY).preprocessing.crop == 1.0


def test_weights_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=12, num_heads=2)
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "w.safetensors")
    options = {**TINY, "pretrained": True, "weights": str(tmp_path / "w.safetensors")}
    tower = load("timm/vit_tiny_patch16_224", **options).tower
    assert torch.equal(tower.model.pos_embed, model.pos_embed.half().float())


def test_names_can_be_listed() -> None:
    assert "timm/vit_base_patch16_224.augreg_in21k" in names("timm")
    assert set(names("vpt")) <= set(names())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("timm/vit_bse_patch16_224", {}, "did you mean vit_base_patch16_224"),
        (
            "timm/vit_tiny_patch16_224",
            {"pretrained": False, "dpth": 3},
            "does not take these backbone options",
        ),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "mlp_ratio": 0}, "mlp_ratio=0 will not do: give more than"),
        (
            "timm/vit_tiny_patch16_224",
            {"pretrained": False, "drop_rate": 1},
            "give 0 or more, less than 1",
        ),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "init_values": math.nan}, "init_values=nan will not do"),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "qkv_bias": "x"}, "backbone.qkv_bias='x' will not do"),
        ("timm/vit_tiny_patch16_224", {"weights": "none.pt"}, "'none.pt' does not exist"),
        ("timm/vit_tiny_patch16_224.no_such_tag", {}, "could not be had"),
        ("vpt/vit-nan", {}, "no backbone 'vpt/vit-nan' comes with the package"),
    ],
)
def test_a_backbone_that_cannot_be_had(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        load(name, **options)
    assert sentence in str(error.value)


def test_offline_the_remedy_is_named() -> None:
    with pytest.raises(VptError, match="name a local file with weights=…, or ask for pretrained=False"):
        load("timm/vit_tiny_patch16_224.augreg_in21k")


def test_a_file_that_holds_other_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(VptError, match="does not hold weights for timm/vit_tiny_patch16_224"):
        load("timm/vit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"))


def test_images_of_another_size() -> None:
    model = vpt.attach(vit(), num_classes=2)
    with pytest.raises(VptError, match="takes images of 32×32 pixels and got 48×48: resize them, or create it"):
        model(torch.zeros(1, 3, 48, 48))


def test_a_model_without_pooling() -> None:
    with pytest.raises(VptError, match="it was made without pooling"):
        vpt.attach(vit(global_pool=""), num_classes=2)


def test_preprocessing_can_be_another_than_the_models() -> None:
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.875, "crop_mode": "squash"}
    backbone = load("timm/vit_tiny_patch16_224", preprocessing=given, **TINY)
    read = backbone.preprocessing
    assert (read.mean, read.std, read.crop, read.crop_mode) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.875, "squash")
    assert backbone.options["preprocessing"] == given
    with pytest.raises(VptError, match=r"backbone\.preprocessing\.men is none of crop_mode, crop_pct"):
        load("timm/vit_tiny_patch16_224", preprocessing={"men": 0}, **TINY)


def test_images_of_several_sizes_are_what_timm_makes_of_them_padded() -> None:
    model = FAMILIES["naflex"].make()
    own = copy.deepcopy(model)
    own.reset_classifier(0)
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(3, *size, generator=generator) for size in ((24, 40), (32, 16), (24, 40))]
    seen = {"size": [24, 40], "mean": [0.5] * 3, "std": [0.5] * 3}
    prompted = vpt.attach(model, "linear", num_classes=2, preprocessing=seen)
    with torch.no_grad():
        torch.testing.assert_close(prompted.features(images), own(in_patches(images, 8)), rtol=1e-4, atol=1e-4)
    deep = vpt.attach(model, "vpt-deep", num_tokens=2, num_classes=2, preprocessing=seen).double().train()
    images = [image.double() for image in images]
    torch.testing.assert_close(deep.features(images), deep.features(images, plain=True), rtol=1e-10, atol=1e-10)
    deep.loss((images, torch.tensor([0, 1, 0]))).backward()
    assert all(p.grad.any() for p in deep.parameter_groups()["prompts"])


def in_patches(images: list[torch.Tensor], side: int) -> dict[str, torch.Tensor]:
    """As NaFlexVit takes images of several sizes: patches, filled up, with their places and which of them are there."""
    most = max(image[0].numel() for image in images) // side**2
    found = {
        "patches": torch.zeros(len(images), most, side * side * 3),
        "patch_coord": torch.zeros(len(images), most, 2, dtype=torch.long),
        "patch_valid": torch.zeros(len(images), most, dtype=torch.bool),
    }
    for number, image in enumerate(images):
        rows, columns = (pixels // side for pixels in image.shape[1:])
        cut = image.unflatten(2, (columns, side)).unflatten(1, (rows, side)).permute(1, 3, 2, 4, 0)
        found["patches"][number, : rows * columns] = cut.flatten(2).flatten(0, 1)
        found["patch_coord"][number, : rows * columns] = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        found["patch_valid"][number, : rows * columns] = True
    return found


@pytest.mark.parametrize("layer", ["in_proj", "out_proj"])
def test_layers_that_attention_and_mlp_share_are_not_passed_by_where_they_have_hooks(layer: str) -> None:
    model, seen = FAMILIES["parallel blocks, fused"].make(), []
    getattr(model.blocks[0], layer).register_forward_hook(lambda module, given, found: seen.append(given))
    prompted = vpt.attach(model, "vpt-deep", num_tokens=2, num_classes=3)
    assert "Linear has forward hooks" in prompted.tower.path(0)
    prompted.features(images_for(model))
    assert len(seen) == 1
