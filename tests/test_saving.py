"""What is saved, what is loaded back, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vpt
from tests.zoo import images_for, vit
from vpt import VptError
from vpt.saving import fingerprint

METHODS = {
    "linear": {},
    "vpt-shallow": {"num_tokens": 3},
    "vpt-deep": {"num_tokens": 3, "project": 4},
    "bias": {},
    "partial-k": {"k": 1},
    "full": {},
}


def trained(method: str = "vpt-deep", **options: object) -> vpt.Prompted:
    """A model whose every tuned tensor differs from its start."""
    model = vpt.attach(vit(), method, classes=["ant", "bee", "fly"], **options)
    with torch.no_grad():
        for tensor in model.tuned_state().values():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_comes_back_as_it_was(method: str, tmp_path: Path) -> None:
    model = trained(method, **METHODS[method])
    model.save_pretrained(tmp_path / "saved")
    loaded = vpt.load(tmp_path / "saved", backbone=vit())
    assert loaded.classes == ("ant", "bee", "fly")
    assert loaded.preprocessing == model.preprocessing
    assert torch.equal(loaded(images_for(vit())), model(images_for(vit())))


def test_a_backbone_by_name_is_made_again(tmp_path: Path) -> None:
    options = {"depth": 2, "embed_dim": 12, "num_heads": 2}
    torch.manual_seed(0)
    model = vpt.create(
        "timm/vit_tiny_patch16_224", num_classes=2, pretrained=False, image_size=32, backbone_options=options
    )
    model.save_pretrained(tmp_path)
    loaded = vpt.load(tmp_path, any_backbone=True)
    assert loaded.preprocessing.size == (32, 32)
    assert loaded(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_the_frozen_backbone_is_not_saved(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"vpt.safetensors", "vpt.json", "README.md"}
    assert set(load_file(tmp_path / "vpt.safetensors")) == {"method.values", "head.weight", "head.bias"}


def test_facts_and_card_tell_what_it_is(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path, metrics={"test/top1": 0.875})
    facts = json.loads((tmp_path / "vpt.json").read_text())
    assert facts["method"] == {"name": "vpt-deep", "num_tokens": 3}
    assert facts["backbone"]["name"] == "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert facts["metrics"] == {"test/top1": 0.875}
    assert facts["versions"]["timm"]
    card = (tmp_path / "README.md").read_text()
    assert "vpt-deep" in card
    assert "test/top1: 0.8750" in card
    assert "ant, bee, fly" in card


def test_other_weights_are_refused_and_can_be_allowed(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    other = vit()
    with torch.no_grad():
        other.blocks[0].attn.qkv.weight[0, 0] += 1
    with pytest.raises(VptError, match=r"was trained with timm/vit_tiny_patch16_224\S+ of fingerprint \w+, and the"):
        vpt.load(tmp_path, backbone=other)
    assert vpt.load(tmp_path, backbone=other, any_backbone=True).classes == ("ant", "bee", "fly")


def test_the_fingerprint_does_not_depend_on_precision_but_on_every_value() -> None:
    model = vit()
    state = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    reference = fingerprint(state)
    assert fingerprint({name: tensor.half() for name, tensor in state.items()}) == reference
    assert fingerprint(dict(reversed(state.items()))) == reference
    for name, tensor in state.items():
        changed = tensor.clone()
        changed.view(-1)[-1] += 1
        assert fingerprint({**state, name: changed}) != reference


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(VptError, match="holds something already: name another place, or say overwrite\\."):
        trained(num_tokens=3).save_pretrained(tmp_path)
    trained(num_tokens=3).save_pretrained(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    with pytest.raises(VptError, match=r"the saved method.values has shape \(3, 3, 24\)"):
        trained(num_tokens=4).load_tuned_state(load_file(tmp_path / "vpt.safetensors"))
    with pytest.raises(VptError, match="the saved tensors are not those of linear"):
        trained("linear").load_tuned_state(load_file(tmp_path / "vpt.safetensors"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("no-such-folder", "there is no folder 'no-such-folder'"),
        ("./no/such", "there is no folder './no/such'"),
        ("user/prompts", "'user/prompts' is no folder here, and could not be had from the Hugging Face hub"),
    ],
)
def test_nothing_to_load(source: str, sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.load(source)
    assert sentence in str(error.value)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(VptError, match=r"holds no tuned model: vpt.safetensors and vpt.json missing"):
        vpt.load(tmp_path)


@pytest.mark.parametrize("name", ["vpt.safetensors", "vpt.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(VptError, match="holds a damaged model"):
        vpt.load(tmp_path, backbone=vit())
