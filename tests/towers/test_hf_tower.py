"""transformers' image towers from a folder as the hub has them, and in hand."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BlipConfig,
    BlipModel,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

import vpt
from tests.zoo import HF
from vpt import VptError
from vpt.towers.load import load, wrap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ViT and its processor, as `save_pretrained` of transformers leaves them."""
    torch.manual_seed(0)
    ViTModel(ViTConfig(**HF), add_pooling_layer=False).save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1] * 3, image_std=[0.2] * 3)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_a_model_with_its_own_preprocessing(folder: Path) -> None:
    backbone = load(f"hf/{folder}")
    assert backbone.preprocessing.mean == (0.1, 0.1, 0.1)
    assert (backbone.preprocessing.crop_mode, backbone.preprocessing.size) == ("squash", (32, 32))


def test_prompts_are_saved_by_name_and_loaded(folder: Path, tmp_path: Path) -> None:
    model = vpt.create(f"hf/{folder}", "vpt-deep", num_tokens=2, num_classes=3)
    model.save_pretrained(tmp_path / "saved")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(vpt.load(tmp_path / "saved")(images), model(images))


def test_clips_processor_crops(tmp_path: Path) -> None:
    vision, text = CLIPVisionConfig(**HF), CLIPTextConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    from transformers import CLIPConfig

    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)).save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    backbone = load(f"hf/{tmp_path}")
    assert backbone.tower.num_features == 12
    assert backbone.preprocessing.crop == 0.8
    assert backbone.preprocessing.crop_mode == "center"


def test_the_image_half_of_live_models() -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    siglip = SiglipModel(SiglipConfig(vision_config=HF, text_config={**text, "vocab_size": 32}))
    assert wrap(siglip).tower.width == 24
    assert wrap(ViTForImageClassification(ViTConfig(**HF))).tower.read == 1


def test_the_image_half_of_blip_and_what_is_said_of_its_texts() -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BlipConfig(vision_config=HF, text_config={**text, "vocab_size": 32}, projection_dim=12)
    model = BlipModel(config).eval()
    images = torch.randn(2, 3, 32, 32)
    prompted = vpt.attach(model, "vpt-deep", num_tokens=2, num_classes=2)
    assert prompted.tower.path(0).startswith("opened")
    with torch.no_grad():
        found = vpt.attach(model, "linear", num_classes=2).features(images)
        assert torch.equal(found, model.get_image_features(pixel_values=images).pooler_output)
    with pytest.raises(VptError, match="the texts of a BlipModel are not opened"):
        vpt.attach(model, "zero-shot", classes=["a", "b"])


def test_siglip_2_sees_a_square_of_as_many_patches_as_its_processor_cuts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model

    small = {key: value for key, value in HF.items() if key != "image_size"}
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    text |= {"vocab_size": 32, "projection_size": 24}
    config = Siglip2Config(vision_config={**small, "num_patches": 16}, text_config=text)
    Siglip2Model(config).save_pretrained(tmp_path)
    Siglip2ImageProcessor(max_num_patches=16, patch_size=8).save_pretrained(tmp_path)
    model = vpt.create(f"hf/{tmp_path}", num_classes=2)
    assert model.preprocessing.size == (32, 32)
    assert (model.preprocessing.crop_mode, model.preprocessing.mean) == ("squash", (0.5, 0.5, 0.5))
    assert "in up to 16 patches: here they are made 32×32 pixels" in capsys.readouterr().err
    assert vpt.create(f"hf/{tmp_path}", num_classes=2, image_size=48)(torch.zeros(1, 3, 48, 48)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("hf/google/vit-base-patch16-224-in21k", {}, "could not be had"),
        ("hf/./nothing", {}, "hf/./nothing could not be had"),
    ],
)
def test_a_model_that_cannot_be_had(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        load(name, **options)
    assert sentence in str(error.value)


def test_another_image_size_is_refused(folder: Path) -> None:
    with pytest.raises(VptError, match="takes images of 32 pixels, not 64: leave image_size out"):
        load(f"hf/{folder}", image_size=64)


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    from transformers import BertModel

    small = {key: value for key, value in HF.items() if key not in ("image_size", "patch_size")}
    BertModel(BertConfig(**small, vocab_size=32)).save_pretrained(tmp_path)
    with pytest.raises(VptError, match="is a BertModel, which has no image encoder: name an image model"):
        load(f"hf/{tmp_path}")


@pytest.mark.parametrize("older", ["4.57.1", "5.11.0"])
def test_an_older_transformers_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch, older: str) -> None:
    monkeypatch.setattr("vpt.towers.load.version", lambda package: older)
    for opened in (lambda: load(f"hf/{folder}"), lambda: wrap(ViTForImageClassification(ViTConfig(**HF)))):
        with pytest.raises(VptError, match=rf"transformers {older} is too old for vpt: install transformers>=5\.12\."):
            opened()
