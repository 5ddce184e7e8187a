"""What is saved, what is loaded back, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import vpt
from tests.zoo import images_for, vit
from vpt import VptError
from vpt.saving import fingerprint
from vpt.towers import located

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
    assert set(load_file(tmp_path / "vpt.safetensors")) == {"method.prompts.values", "head.weight", "head.bias"}


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
    with pytest.raises(VptError, match=r"the saved method.prompts.values has shape \(3, 3, 24\)"):
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
    vpt.create("vpt/vit-nano", "linear", num_classes=2).save_pretrained(tmp_path / "best")
    with pytest.raises(VptError, match=r"it is a run, whose model is in .*best\."):
        vpt.load(tmp_path)


def test_an_empty_name_of_weights_is_none(tmp_path: Path) -> None:
    vpt.create("vpt/vit-nano", "linear", num_classes=2).save_pretrained(tmp_path)
    with pytest.raises(VptError, match="takes no file of weights"):
        vpt.load(tmp_path, weights="")


@pytest.mark.parametrize("name", ["vpt.safetensors", "vpt.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(VptError, match="holds a damaged model"):
        vpt.load(tmp_path, backbone=vit())


def changed(folder: Path, **facts: object) -> None:
    """Write other facts into a saved model, as a text editor would."""
    path = folder / "vpt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_model_of_an_older_version_is_read(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "vpt.json").read_text())
    for key in ("format", "tensors", "digest", "head", "templates"):
        del facts[key]
    (tmp_path / "vpt.json").write_text(json.dumps(facts))
    assert vpt.load(tmp_path, backbone=vit()).classes == ("ant", "bee", "fly")


def test_a_model_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    changed(tmp_path, format=99)
    with pytest.raises(
        VptError, match=r"vpt\.json has format 99, and this version of vpt reads up to \d: install a newer"
    ):
        vpt.load(tmp_path, backbone=vit())


@pytest.mark.parametrize("name", ["vpt.safetensors", "vpt.json"])
def test_one_changed_byte_is_noticed(name: str, tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    content = (tmp_path / name).read_bytes()
    spot = content.index(b"0.5") if name == "vpt.json" else len(content) - 2
    (tmp_path / name).write_bytes(content[:spot] + bytes([content[spot] ^ 1]) + content[spot + 1 :])
    with pytest.raises(VptError, match="is not as it was saved"):
        vpt.load(tmp_path, backbone=vit())


def test_facts_changed_by_hand_are_taken_without_their_digest(tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    changed(tmp_path, classes=["ant", "bee", "housefly"])
    with pytest.raises(VptError, match='take its lines "digest" and "format" out'):
        vpt.load(tmp_path, backbone=vit())
    facts = json.loads((tmp_path / "vpt.json").read_text())
    (tmp_path / "vpt.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in ("digest", "format")}))
    assert vpt.load(tmp_path, backbone=vit()).classes == ("ant", "bee", "housefly")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", None),
        ("classes", "ant"),
        ("classes", [1, 2, 3]),
        ("classes", ["ant", "ant", "bee"]),
        ("head", "quadratic"),
        ("method", {}),
        ("method", {"name": "no-such"}),
        ("method", {"name": "vpt-deep", "num_tokens": 10**9}),
        ("method", {"name": "vpt-deep", "num_tokens": float("nan")}),
        ("method", {"name": "vpt-deep", "no_such_option": 1}),
        ("backbone", {}),
        ("backbone", {"name": 3, "options": {}, "fingerprint": "0" * 32}),
        ("preprocessing", {}),
        ("preprocessing", {"size": [10**6, 10**6], "mean": [0, 0, 0], "std": [1, 1, 1]}),
        ("preprocessing", {"size": [32, 32], "mean": [0], "std": [1, 1, 1]}),
        ("preprocessing", {"size": [32, 32], "mean": [0, 0, 0], "std": [1, 1, 0]}),
        ("preprocessing", {"size": [32, 32], "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "best"}),
        ("format", True),
    ],
)
def test_facts_that_make_no_sense(key: str, value: object, tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    changed(tmp_path, format=1, digest=None)
    changed(tmp_path, **{key: value})
    with pytest.raises(VptError, match=r"\.$"):
        vpt.load(tmp_path, backbone=vit())


@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b"1" * 5000, b""])
def test_facts_that_are_none(content: bytes, tmp_path: Path) -> None:
    trained(num_tokens=3).save_pretrained(tmp_path)
    (tmp_path / "vpt.json").write_bytes(content)
    with pytest.raises(VptError):
        vpt.load(tmp_path, backbone=vit())


def test_tensors_and_facts_of_one_moment_belong_together_wherever_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(num_tokens=3)
    model.save_pretrained(tmp_path)
    replace, moves = os.replace, []

    def dies_after_the_first(source: Path, target: Path) -> None:
        if moves:
            os.link(source, str(source) + ".kept")
            raise KeyboardInterrupt
        moves.append(target)
        replace(source, target)

    other = trained(num_tokens=3)
    monkeypatch.setattr("os.replace", dies_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(tmp_path, overwrite=True)
    assert moves == [tmp_path / "vpt.safetensors"]
    assert torch.equal(vpt.load(tmp_path, backbone=vit()).head.weight, other.head.weight)


def test_weights_of_a_file_are_known_by_digest_and_found_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    options = {"depth": 2, "embed_dim": 12, "num_heads": 2}
    backbone = {"image_size": 32, "backbone_options": options}
    save_file(
        timm.create_model("vit_tiny_patch16_224", img_size=32, **options).state_dict(), tmp_path / "w.safetensors"
    )
    model = vpt.create("timm/vit_tiny_patch16_224", num_classes=2, weights=tmp_path / "w.safetensors", **backbone)
    model.save_pretrained(tmp_path / "saved")
    assert all(str(tmp_path) not in path.read_text() for path in (tmp_path / "saved").glob("*[nd]"))
    # Here it is remembered; a colleague has to say where it lies, or has it below VPT_DATA.
    assert vpt.load(tmp_path / "saved").classes == ("0", "1")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(
        VptError, match=r"weights of the file 'w\.safetensors' \(SHA-256 \w{64}\), which is not found here"
    ):
        vpt.load(tmp_path / "saved")
    assert vpt.load(tmp_path / "saved", weights=tmp_path / "w.safetensors").classes == ("0", "1")
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    assert vpt.load(tmp_path / "saved").classes == ("0", "1")


def test_other_weights_in_a_file_of_that_name_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "w.pt").write_bytes(b"these")
    known = located.identified(tmp_path / "w.pt")
    assert located.located(known) == tmp_path / "w.pt"
    (tmp_path / "w.pt").write_bytes(b"others")
    assert located.located(known) is None
