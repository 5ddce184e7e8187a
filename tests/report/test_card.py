"""The card of a saved model, as the Hugging Face hub reads it."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import vit
from vpt.report.card import card


def written(model: vpt.Prompted, folder: Path) -> ModelCard:
    model.save_pretrained(folder)
    return ModelCard.load(folder / "README.md")


def test_its_header_names_the_backbone_the_library_and_the_task(tmp_path: Path) -> None:
    found = written(vpt.attach(vit(), "vpt-deep", num_tokens=2, classes=["ant", "bee"]), tmp_path / "ants")
    assert found.data.library_name == "vpt"
    assert found.data.base_model == "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert found.data.pipeline_tag == "image-classification"
    assert "of the whole model) for 2 classes: ant, bee." in found.content
    assert 'vpt.load("ants")' in found.content


def test_class_names_as_classifier_are_classes_too(tmp_path: Path) -> None:
    found = written(vpt.attach(image_text_model(), "coop", classes=CLASSES, num_tokens=2), tmp_path)
    assert found.data.pipeline_tag == "image-classification"
    assert 'model.predict("image.jpg")' in found.content


def test_a_model_of_images_and_texts_without_classes_says_how_it_gets_some(tmp_path: Path) -> None:
    found = written(vpt.attach(image_text_model(), "ivlp", classes=(), head="text"), tmp_path)
    assert found.data.pipeline_tag == "zero-shot-image-classification"
    assert "of the whole model) for images and texts." in found.content
    assert 'model.set_classes(["a dog", "a cat"])' in found.content


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("timm/vit_base_patch16_224.augreg_in21k", "timm/vit_base_patch16_224.augreg_in21k"),
        ("timm/vit_base_patch16_224", None),
        ("hf/facebook/dinov2-base", "facebook/dinov2-base"),
        ("hf/./models/mine", None),
        ("open_clip/ViT-B-16/openai", None),
        ("vpt/vit-nano", None),
        (None, None),
    ],
)
def test_only_what_the_hub_has_by_that_name_is_its_base_model(backbone: str | None, name: str | None) -> None:
    facts = {
        "backbone": {"name": backbone, "fingerprint": "0"},
        "method": {"name": "vpt-deep"},
        "classes": ["ant"],
        "preprocessing": {},
        "parameters": {"tuned": 1, "all": 2},
        "metrics": {},
        "versions": {},
    }
    assert ModelCard(card(facts, "here")).data.base_model == name
