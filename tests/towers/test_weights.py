"""Files of weights as training code leaves them, fitted to a model or refused by the name of a tensor."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.zoo import SMALL, torchvision_vit
from vpt import VptError
from vpt.towers.load import load
from vpt.towers.weights import fitted, kind_of, read_weights, without_prefix

NAME = "timm/vit_tiny_patch16_224"
OPTIONS = {key: value for key, value in SMALL.items() if key not in ("img_size", "num_classes")}
State = dict[str, Tensor]


def ours() -> State:
    torch.manual_seed(3)
    return timm.create_model("vit_tiny_patch16_224", **SMALL).state_dict()


def behind(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def loaded(path: Path, **options: object) -> State:
    tower = load(NAME, weights=path, image_size=32, **{**OPTIONS, **options}).tower
    return tower.model.state_dict()


WRAPPED: dict[str, Callable[[State], object]] = {
    "as it is": lambda s: s,
    "own classes": lambda s: s | {"head.weight": torch.zeros(3, 24), "head.bias": torch.zeros(3)},
    "without a head": lambda s: {name: tensor for name, tensor in s.items() if not name.startswith("head")},
    "parallel": lambda s: {"state_dict": behind("module.", s), "epoch": 3},
    "dino": lambda s: {"student": behind("module.backbone.", behind("x", s)), "teacher": behind("backbone.", s)},
    "moco": lambda s: {
        "state_dict": behind("module.base_encoder.", s) | behind("module.predictor.", {"0.w": torch.ones(1)})
    },
    "mae": lambda s: {"model": s | {"decoder_embed.weight": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)},
    "averaged": lambda s: {"state_dict": behind("", {k: v + 1 for k, v in s.items()}), "state_dict_ema": s},
    "lightning": lambda s: {"state_dict": behind("model.encoder.", s), "hyper_parameters": {"lr": 0.1}},
    "numbers of numpy": lambda s: {"model": s, "best": np.float64(0.3), "step": np.int64(3), "small": np.float32(1)},
    "compiled": lambda s: {"model_state_dict": behind("_orig_mod.", s)},
    "half precision": lambda s: {name: tensor.double() for name, tensor in s.items()},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_checkpoints_of_training_code(kind: str, tmp_path: Path) -> None:
    state = ours()
    torch.save(WRAPPED[kind](state), tmp_path / "w.pth")
    found = loaded(tmp_path / "w.pth")
    assert found
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ours()
    torch.save(state | {"decoder.a": torch.ones(1), "decoder.b": torch.ones(1)}, tmp_path / "w.pt")
    loaded(tmp_path / "w.pt")
    assert "2 further tensors are left out (decoder.a, decoder.b)" in capsys.readouterr().err
    torch.save(
        {"state_dict": behind("base.", state) | behind("momentum.", state) | {"queue": torch.ones(1)}},
        tmp_path / "w.pt",
    )
    loaded(tmp_path / "w.pt")
    assert (
        "the tensors of 'base.' are taken, and not those of 'momentum.'; 1 others are left out"
        in capsys.readouterr().err
    )
    torch.save(state, tmp_path / "w.pt")
    loaded(tmp_path / "w.pt")
    assert capsys.readouterr().err == ""


def test_positions_are_resampled_and_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", **{**SMALL, "img_size": 48}).state_dict()
    save_file(state, tmp_path / "w.pt")
    assert loaded(tmp_path / "w.pt")["pos_embed"].shape == (1, 17, 24)
    torch.save(ours(), tmp_path / "w.safetensors")
    assert kind_of(tmp_path / "w.safetensors") == "torch"
    assert loaded(tmp_path / "w.safetensors")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = ours()
    torch.save({name: tensor for name, tensor in state.items() if ".fc2." not in name}, tmp_path / "w.pt")
    with pytest.raises(
        VptError, match=r"6 of \d+ tensors are missing, first blocks\.0\.mlp\.fc2\.weight; it has cls_token"
    ):
        loaded(tmp_path / "w.pt")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(VptError, match=r"have another shape, first cls_token \(1, 1, 24\), the model's \(1, 1, 48\)"):
        loaded(tmp_path / "w.pt", embed_dim=48)
    torch.save(torchvision_vit().state_dict(), tmp_path / "w.pt")
    with pytest.raises(VptError, match=r"as models of torchvision/… have them"):
        loaded(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"<html>404</html>", "begins with b'<html>404</html>'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"PK\x03\x04 and no more", "is cut off"),
        (b"\x80\x02}q\x00X\x05", "is damaged"),
    ],
)
def test_what_are_no_weights(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(VptError, match=sentence):
        loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_download_that_was_cut_off(save: Callable[..., None], share: float, tmp_path: Path) -> None:
    save(ours(), tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: int(share * len(content))])
    with pytest.raises(VptError, match=r"cut off|damaged|no file of weights"):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {"state_dict": {}}, {"a": {"b": {"c": {"d": {"e": {}}}}}}, 7]
)
def test_a_checkpoint_without_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(VptError, match="holds no state dict"):
        read_weights(tmp_path / "w.pt")


def test_a_few_names_in_common_are_no_model_behind_a_prefix() -> None:
    own = {name: torch.ones(1) for name in ("norm.weight", "norm.bias", "a", "b", "c")}
    state = {"text.norm.weight": torch.ones(1), "text.norm.bias": torch.ones(1), "d": torch.ones(1)}
    assert without_prefix(state, own, "w.pt") == state
    with pytest.raises(VptError, match=r"w\.pt: 5 of 5 tensors are missing, first norm\.weight"):
        fitted(state, own, "w.pt")


def test_google_s_arrays_of_the_first_vision_transformers(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(VptError, match="does not hold weights for timm/vit_tiny_patch16_224"):
        loaded(tmp_path / "w.npz")
    with pytest.raises(VptError, match="does not hold weights for torchvision/vit_b_32"):
        load("torchvision/vit_b_32", weights=tmp_path / "w.npz")


def test_a_file_and_no_weights_contradict_each_other(tmp_path: Path) -> None:
    torch.save(ours(), tmp_path / "w.pt")
    with pytest.raises(VptError, match="and pretrained=False contradict each other"):
        loaded(tmp_path / "w.pt", pretrained=False)
    with pytest.raises(VptError, match="is a folder: name the file in it"):
        loaded(tmp_path)
    with pytest.raises(VptError, match="hf/x/y takes no file of weights: name the folder that holds them"):
        load("hf/x/y", weights=tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_openai_s_archives_of_torchscript_are_read_and_not_run(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2).half()).eval()
    model[0].weight.data = torch.arange(6.0).reshape(3, 2).T
    torch.jit.save(torch.jit.script(model), tmp_path / "w.pt")
    assert kind_of(tmp_path / "w.pt") == "torchscript"
    found = read_weights(tmp_path / "w.pt")
    state = model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in state.items())
