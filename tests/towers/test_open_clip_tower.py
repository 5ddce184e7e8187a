"""open_clip's image towers by name and in hand."""

import warnings
from pathlib import Path

import pytest
import torch

import vpt
from tests.zoo import clip
from vpt import VptError
from vpt.towers.load import load, names


def test_a_model_by_name_at_its_true_size() -> None:
    backbone = load("open_clip/ViT-B-32", pretrained=False)
    assert (backbone.tower.width, backbone.tower.depth, backbone.tower.num_features) == (768, 12, 512)
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.mean == (0.48145466, 0.4578275, 0.40821073)
    assert backbone.preprocessing.crop_mode == "center"


def test_images_of_another_size_resample_positions() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tower = load("open_clip/ViT-B-32", pretrained=False, image_size=64).tower
    assert tower.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 5, 768)


def test_prompts_on_a_live_model_are_saved_and_loaded(tmp_path: Path) -> None:
    model = vpt.attach(clip(), "vpt-deep", num_tokens=2, num_classes=3)
    model.save_pretrained(tmp_path / "saved")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(vpt.load(tmp_path / "saved", backbone=clip())(images), model(images))
    with pytest.raises(VptError, match="was saved with a backbone that has no name: pass it as backbone="):
        vpt.load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("open_clip/ViT-B-33", {}, "open_clip has no model 'ViT-B-33': did you mean ViT-B-32"),
        ("open_clip/ViT-B-32", {}, "open_clip/ViT-B-32 has no weights '': say open_clip/ViT-B-32/{openai"),
        ("open_clip/ViT-B-32/laion", {}, "has no weights 'laion'"),
        ("open_clip/ViT-B-32", {"pretrained": False, "depth": 3}, "does not take these backbone options"),
        ("open_clip/ViT-B-32", {"pretrained": False, "precision": "x"}, "backbone.precision='x' is none of fp32,"),
        ("open_clip/x", {"pretrained": False, "config": {"quick_gelu": 2}}, "backbone.config.quick_gelu=2 will not do"),
        (
            "open_clip/x",
            {"pretrained": False, "config": {"vision_cfg": {"no_ln_pre": "x"}}},
            "backbone.config.vision_cfg.no_ln_pre='x' will not do",
        ),
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", {}, "could not be had"),
    ],
)
def test_a_model_that_cannot_be_had(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        load(name, **options)
    assert sentence in str(error.value)


def test_names_can_be_listed() -> None:
    assert "open_clip/ViT-B-32/laion2b_s34b_b79k" in names("open_clip")
