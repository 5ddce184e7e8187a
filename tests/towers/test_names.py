"""What a backbone is called: its library can be left out where one library alone has it, and near names are told."""

from pathlib import Path

import pytest
import timm
import transformers

from tests.zoo import HF, SMALL
from vpt import VptError
from vpt.towers import hf, hf_processor
from vpt.towers.load import load
from vpt.towers.names import with_library

LIBRARIES = ("timm", "open_clip", "hf", "torchvision", "vpt")


def name_of(name: str) -> str:
    from vpt.towers import load as towers

    return with_library(name, LIBRARIES, towers._models)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch16_224", "timm/vit_base_patch16_224"),
        ("vit_base_patch16_224.augreg_in21k", "timm/vit_base_patch16_224.augreg_in21k"),
        ("ViT-B-16/openai", "open_clip/ViT-B-16/openai"),
        ("vit_b_16", "torchvision/vit_b_16"),
        ("vit-nano", "vpt/vit-nano"),
        ("facebook/dinov2-base", "hf/facebook/dinov2-base"),
        ("timm/vit_base_patch16_224", "timm/vit_base_patch16_224"),
    ],
)
def test_a_name_that_one_library_has_is_found(name: str, expected: str) -> None:
    assert name_of(name) == expected


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet18", "is in several libraries: say timm/resnet18 or torchvision/resnet18"),
        ("vit_bse_patch16_224", "did you mean timm/vit_base_patch16_224"),
        ("tim/vit_base_patch16_224", "did you mean timm/vit_base_patch16_224"),
        ("ViT-B16", r"did you mean .*open_clip/ViT-B-16"),
        ("someone/their-own-model-of-rocks", r"did you mean hf/someone/their-own-model-of-rocks\?"),
        ("qqqq", "names no library: write it as 'library/model', where library is one of timm, open_clip"),
    ],
)
def test_a_near_miss_is_suggested_over_all_libraries(name: str, sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        name_of(name)


def test_a_folder_is_of_the_library_that_wrote_it(tmp_path: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**HF)).save_pretrained(tmp_path / "hf")
    model = timm.create_model("vit_tiny_patch16_224", **SMALL)
    timm.models.save_for_hf(model, str(tmp_path / "timm"), model_args=SMALL, safe_serialization=True)
    (tmp_path / "none").mkdir()
    assert load(str(tmp_path / "hf")).name == f"hf/{tmp_path / 'hf'}"
    assert load(str(tmp_path / "timm")).name == f"timm/local-dir:{tmp_path / 'timm'}"
    with pytest.raises(VptError, match=r"holds no backbone: config\.json or open_clip_config\.json is missing"):
        load(str(tmp_path / "none"))
    (tmp_path / "none" / "config.json").write_text("{}")
    with pytest.raises(VptError, match=r"is of no library that is known"):
        load(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "name",
    [
        "timm/convnext_tiny.fb_in22k",
        "timm/hf-hub:timm/resnet50.a1_in1k@abcdef",
        "open_clip/RN50/openai",
        "open_clip/ViT-B-32/laion2b_s34b_b79k",
        "hf/facebook/convnext-tiny-224",
        "torchvision/resnet18",
    ],
)
def test_without_a_network_every_family_says_so_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(VptError, match=r"could not be had \(.*network"):
        load(name)


def test_a_revision_is_passed_on_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers.ViTModel(transformers.ViTConfig(**HF)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    asked: list[str | None] = []
    for kind in (hf.AutoConfig, hf.AutoModel, hf_processor.AutoImageProcessor):
        own = kind.from_pretrained
        monkeypatch.setattr(
            kind, "from_pretrained", lambda *a, own=own, **o: asked.append(o.get("revision")) or own(*a, **o)
        )
    assert load(f"hf/{tmp_path}", revision="0123abc").options == {"revision": "0123abc"}
    assert asked == ["0123abc"] * 3
