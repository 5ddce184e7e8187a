"""torchvision's Vision Transformers by name."""

from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from vpt import VptError
from vpt.towers.load import load, names


def test_preprocessing_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        backbone = load("torchvision/vit_b_16/IMAGENET1K_V1", pretrained=False)
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.crop == 0.875
    assert backbone.preprocessing.interpolation == "bilinear"
    assert backbone.tower.width == 768


def test_weights_from_a_local_file(tmp_path: Path) -> None:
    model = get_model("vit_b_32")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    tower = load("torchvision/vit_b_32", weights=str(tmp_path / "weights.pt")).tower
    assert torch.equal(tower.model.conv_proj.weight, model.conv_proj.weight)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("torchvision/vit_b_15", {}, "torchvision has no model 'vit_b_15': did you mean vit_b_1"),
        ("torchvision/vit_b_16/V1", {}, "torchvision/vit_b_16 has no weights 'V1': say IMAGENET1K_V1"),
        ("torchvision/vit_b_16", {"pretrained": False, "dpth": 1}, "could not be had"),
        ("torchvision/vit_b_16", {"weights": "none.pt"}, "'none.pt' does not exist"),
    ],
)
def test_a_model_that_cannot_be_had(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        load(name, **options)
    assert sentence in str(error.value)


def test_names_can_be_listed() -> None:
    assert {"torchvision/vit_b_16", "torchvision/vit_b_16/IMAGENET1K_V1"} <= set(names("torchvision"))
