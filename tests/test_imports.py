"""Files of the papers' own code, replicated layout by layout: what they have learned is what the model has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vpt
from vpt import VptError
from vpt.cli import main
from vpt.imports import import_file

NANO = "vpt/clip-nano"
CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def towers() -> Any:
    model = vpt.create(NANO, "zero-shot", classes=CLASSES)
    return model.tower, model.text.tower


def dassl(path: Path, state: dict[str, Tensor]) -> Path:
    """As Dassl saves it: half precision, with the optimizer's state and figures that are NumPy's."""
    held = {
        "state_dict": {name: tensor.half() for name, tensor in state.items()},
        "epoch": 5,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.002}]},
        "scheduler": {"last_epoch": 5},
        "val_result": np.float64(81.5),
    }
    torch.save(held, path)
    return path


def names_of_classes(width: int) -> dict[str, Tensor]:
    return {"token_prefix": torch.zeros(2, 1, width), "token_suffix": torch.zeros(2, 9, width)}


def drawn(*shape: int) -> Tensor:
    return (torch.randn(*shape) * 0.1).half().float()


def learned(model: vpt.Prompted) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.tuned_state().items() if name.startswith("method.")}


def holds(model: vpt.Prompted, tensor: Tensor) -> bool:
    """Whether what the model has learned has these values, alone or as one of several."""
    return any(
        torch.equal(part, tensor)
        for own in learned(model).values()
        for part in (own, *(own if own.ndim > tensor.ndim else ()))
        if part.shape == tensor.shape
    )


@pytest.mark.parametrize("method", ["coop", "kgcoop", "prograd"])
def test_context(method: str, towers: Any, tmp_path: Path) -> None:
    width = towers[1].width
    context = drawn(4, width)
    path = dassl(tmp_path / "model.pth.tar-50", {"ctx": context} | names_of_classes(width))
    model, found, rest = import_file(path, method, NANO, classes=CLASSES)
    assert found.options == {"init": None, "num_tokens": 4}
    assert rest == ["token_prefix", "token_suffix"]
    assert torch.equal(model.method.text_prompts.context(None)[0], context)


def test_context_of_each_class(towers: Any, tmp_path: Path) -> None:
    width = towers[1].width
    context = drawn(2, 3, width)
    path = dassl(tmp_path / "model.pth.tar-50", {"ctx": context} | names_of_classes(width))
    model, _, _ = import_file(path, "coop", NANO, classes=CLASSES)
    assert torch.equal(model.method.text_prompts.context(None), context)
    with pytest.raises(VptError, match=r"the saved method\.\S*values has shape \(2, 3"):
        import_file(path, "coop", NANO, classes=["one", "two", "three"])


def test_context_and_the_network_that_moves_it(towers: Any, tmp_path: Path) -> None:
    image, text = towers
    hidden = image.num_features // 16
    layers = {
        "meta_net.linear1.weight": drawn(hidden, image.num_features),
        "meta_net.linear1.bias": drawn(hidden),
        "meta_net.linear2.weight": drawn(text.width, hidden),
        "meta_net.linear2.bias": drawn(text.width),
    }
    context = drawn(4, text.width)
    path = dassl(tmp_path / "model.pth.tar-10", {"ctx": context} | layers | names_of_classes(text.width))
    model, _, rest = import_file(path, "cocoop", NANO, classes=CLASSES)
    features = torch.nn.functional.normalize(torch.randn(1, image.num_features), dim=-1)
    moved = torch.relu(features @ layers["meta_net.linear1.weight"].T + layers["meta_net.linear1.bias"])
    moved = moved @ layers["meta_net.linear2.weight"].T + layers["meta_net.linear2.bias"]
    torch.testing.assert_close(model.method.text_prompts.context(features)[0], context + moved)
    assert len(rest) == 2


def maple_state(towers: Any, depth: int = 3) -> dict[str, Tensor]:
    image, text = towers
    learner = {
        "ctx": drawn(2, text.width),
        "proj.weight": drawn(image.width, text.width),
        "proj.bias": drawn(image.width),
    }
    for number in range(depth - 1):
        learner |= {
            f"compound_prompts_text.{number}": drawn(2, text.width),
            f"compound_prompt_projections.{number}.weight": drawn(image.width, text.width),
            f"compound_prompt_projections.{number}.bias": drawn(image.width),
        }
    learner |= names_of_classes(text.width)
    frozen = {"image_encoder.conv1.weight": torch.zeros(4, 3, 2, 2), "logit_scale": torch.ones(())}
    return {f"prompt_learner.{name}": tensor for name, tensor in learner.items()} | frozen


def test_coupled_prompts(towers: Any, tmp_path: Path) -> None:
    state = maple_state(towers)
    path = dassl(tmp_path / "model.pth.tar-5", state)
    model, found, rest = import_file(path, "maple", NANO, classes=CLASSES)
    assert found.options == {"num_context": 2, "depth": 3}
    assert rest == sorted(name for name in state if not name.startswith("prompt_learner.") or "token_" in name)
    for name in found.used:
        assert holds(model, state[name]), name
    texts = ["prompt_learner.ctx", "prompt_learner.compound_prompts_text.0", "prompt_learner.compound_prompts_text.1"]
    assert torch.equal(model.method.text_prompts.context(None)[0], state[texts[0]])
    layer = "prompt_learner.compound_prompt_projections.1"
    expected = state[texts[2]] @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
    prompts = getattr(model.method, "image_prompts", model.method)
    torch.testing.assert_close(prompts.prompts(2, 1)[0], expected)


def ivlp_state(towers: Any, depth: int = 3) -> dict[str, Tensor]:
    image, text = towers
    state = {"prompt_learner.ctx": drawn(4, text.width), "image_encoder.VPT": drawn(4, image.width)}
    for number in range(1, depth):
        state[f"text_encoder.transformer.resblocks.{number}.VPT_shallow"] = drawn(4, text.width)
        state[f"image_encoder.transformer.resblocks.{number}.VPT_shallow"] = drawn(4, image.width)
    return state | {"text_encoder.ln_final.weight": torch.ones(3)}


@pytest.mark.parametrize("method", ["ivlp", "promptsrc"])
def test_prompts_of_each_encoder(method: str, towers: Any, tmp_path: Path) -> None:
    state = ivlp_state(towers)
    path = dassl(tmp_path / "model.pth.tar-20", state)
    model, found, rest = import_file(path, method, NANO, classes=CLASSES)
    assert (found.options, rest) == ({"num_context": 4, "num_tokens": 4, "depth": 3}, ["text_encoder.ln_final.weight"])
    assert torch.equal(model.method.text_prompts.context(None)[0], state["prompt_learner.ctx"])
    prompts = getattr(model.method, "image_prompts", model.method)
    for layer in range(3):
        name = "image_encoder.VPT" if layer == 0 else f"image_encoder.transformer.resblocks.{layer}.VPT_shallow"
        assert torch.equal(prompts.prompts(layer, 1)[0], state[name])


@pytest.mark.parametrize("encoder", ["both", "vision", "text"])
def test_low_rank_matrices(encoder: str, towers: Any, tmp_path: Path) -> None:
    image, text = towers
    chosen = {"both": [text, image], "vision": [image], "text": [text]}[encoder]
    blocks = [tower for tower in chosen for _ in range(tower.depth)]
    matrices = {"w_lora_A": (2, None), "w_lora_B": (None, 2)}
    weights = {
        f"layer_{number}": {
            f"{projection}_proj": {
                name: drawn(*(side or tower.width for side in shape)) for name, shape in matrices.items()
            }
            for projection in "qkv"
        }
        for number, tower in enumerate(blocks)
    }
    said = {"r": 2, "alpha": 1, "encoder": encoder, "params": ["q", "k", "v"], "position": "all"}
    torch.save({"weights": weights, "metadata": said}, tmp_path / "lora_weights.pt")
    model, found, rest = import_file(tmp_path / "lora_weights.pt", "clip-lora", NANO, classes=CLASSES)
    assert (found.options["rank"], found.options["projections"], rest) == (2, "qkv", [])
    last = weights[f"layer_{len(blocks) - 1}"]["k_proj"]
    tensors = learned(model)
    side = "image" if encoder != "text" else "text"
    (down,), (up,) = ([t for n, t in tensors.items() if side in n and n.endswith(end)] for end in (".down", ".up"))
    assert torch.equal(down[-1, 1], last["w_lora_A"])
    assert torch.equal(up[-1, 1], last["w_lora_B"])
    assert bool([n for n in tensors if "text" in n]) == (encoder != "vision")


def test_the_command_writes_a_model_that_is_measured_and_predicts(towers: Any, tmp_path: Path, capsys) -> None:
    path = dassl(tmp_path / "model.pth.tar-5", maple_state(towers))
    for index in range(6):
        folder = tmp_path / "photos" / CLASSES[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 48), (40 * index, 10, 200 - 30 * index)).save(folder / f"{index}.png")
    out = tmp_path / "imported"
    done = main(["import", str(path), "--method", "maple", "--backbone", NANO, "--out", str(out), "--device", "cpu"])
    told = capsys.readouterr()
    assert (done, "maple (num_context=2, depth=3) of 9 tensors written to" in told.out) == (0, True)
    assert "4 other tensors" in told.err
    assert main(["eval", str(out), f"data.path={tmp_path / 'photos'}", "--json", "--device", "cpu"]) == 0
    measured = capsys.readouterr().out
    assert '"images": 6' in measured
    assert '"top1"' in measured
    assert main(["eval", str(out), "--device", "cpu"]) == 2
    assert "is a saved model, and knows of no data: say which" in capsys.readouterr().err


def test_what_a_file_lacks_is_told_in_a_sentence(towers: Any, tmp_path: Path) -> None:
    path = dassl(tmp_path / "model.pth.tar-5", maple_state(towers))
    with pytest.raises(VptError, match=r"does not hold what cocoop learns: meta_net\.linear1\.weight is missing"):
        import_file(path, "cocoop", NANO, classes=CLASSES)
    with pytest.raises(VptError, match="no published layout of tip-adapter is known: there is clip-lora, cocoop"):
        import_file(path, "tip-adapter", NANO, classes=CLASSES)
    with pytest.raises(VptError, match=r"there is no file .*none\.pth"):
        import_file(tmp_path / "none.pth", "coop", NANO, classes=CLASSES)

    class Evil:
        def __reduce__(self) -> Any:
            return print, ("run",)

    torch.save({"state_dict": {"ctx": Evil()}}, tmp_path / "evil.pth.tar")
    with pytest.raises(VptError, match="holds more than tensors"):
        import_file(tmp_path / "evil.pth.tar", "coop", NANO, classes=CLASSES)
