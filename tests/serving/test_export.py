"""Exported files say what the model says, without this package."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import vit
from vpt import VptError
from vpt.methods import available, find
from vpt.preprocessing import Preprocessing
from vpt.serving.merging import merge
from vpt.serving.pixels import pixels, resizing

DOCS = Path(__file__).parents[2] / "docs/export.md"
ALL = sorted(name for name in available() if name != "cocoop")
# Where the defaults do not suit small images.
OPTIONS: dict[str, dict[str, Any]] = {"pixel": {"size": 3}}
SEEN = "numpy.save('seen.npy', numpy.asarray(picture))\n"
WITHOUT = "import sys; sys.modules['vpt'] = sys.modules['torch'] = None\n"


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def away(model: vpt.Prompted) -> vpt.Prompted:
    """With everything that is learned away from where it begins."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def linear(method: str = "vpt-deep") -> vpt.Prompted:
    return away(vpt.attach(vit(), method, num_classes=4, head="linear", **OPTIONS.get(method, {})))


def by_names(method: str) -> vpt.Prompted:
    return away(vpt.attach(image_text_model(), method, classes=CLASSES, head="text", **OPTIONS.get(method, {})))


# Wide, tall, and with sides that leave an odd pixel to cut.
SHAPES = [(90, 70), (40, 131), (133, 48), (33, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"crop": 0.875}])
@pytest.mark.parametrize("name", ["vpt/vit-nano", "vpt/clip-nano"], ids=["short side", "neither"])
def test_the_example_of_the_documentation_runs_without_this_package(
    name: str, given: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "onnxruntime" in code)
    assert len([line for line in example.splitlines() if line and "import" not in line]) <= 12
    made = {"num_tokens": 2, "head": "linear", "classes": ["cat", "dog", "ship"], "preprocessing": given}
    model = away(vpt.create(name, "vpt-deep", **made))
    facts = vpt.export(model, tmp_path / "model.onnx", images=[picture(0, (90, 70)), picture(1, (48, 64))])
    assert facts["resize"]["keep"] == ("neither" if name == "vpt/clip-nano" else "short side")
    assert facts["checked"]["largest difference"] < 1e-4
    for seed, shape in enumerate(SHAPES):
        noise = np.random.default_rng(seed).integers(0, 256, (*shape[::-1], 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT + example.replace("new.jpg", f"{seed}.png") + SEEN],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        label, score = done.stdout.split()
        said = model.predict(tmp_path / f"{seed}.png")
        assert label == said.label
        assert float(score) == pytest.approx(said.score, abs=1e-4)
        np.testing.assert_array_equal(np.load(tmp_path / "seen.npy"), pixels(Image.fromarray(noise), facts["resize"]))


def test_a_program_of_torch_holds_its_facts_and_takes_any_batch(tmp_path: Path) -> None:
    model = by_names("maple")
    pictures = [picture(seed, (20, 16)) for seed in range(3)]
    facts = vpt.export(model, tmp_path / "model.pt2", images=pictures, input="float32")
    files = {"vpt.json": ""}
    module = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    assert json.loads(files["vpt.json"])["classes"] == CLASSES
    assert json.loads((tmp_path / "model.pt2.json").read_text()) == facts
    for count in (1, 3):
        given = np.stack([pixels(each, facts["resize"]) for each in pictures[:count]]).transpose(0, 3, 1, 2) / 255
        scores = module(torch.from_numpy(given).float())[1]
        expected = [[each.scores[name] for name in CLASSES] for each in model.predict(pictures[:count])]
        torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    # Neither the text encoder nor what was folded is in the file.
    size = sum(parameter.numel() for parameter in model.tower.parameters())
    assert sum(value.numel() for value in torch.export.load(tmp_path / "model.pt2").state_dict.values()) < size * 1.05


def test_what_is_added_to_linear_stages_is_merged() -> None:
    model = by_names("clip-lora").double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = model.features(images)
    assert merge(model.tower, model.method) == model.tower.depth
    torch.testing.assert_close(model.features(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)], ids=["square", "oblong"])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_the_resizing_is_that_of_evaluation(mode: str, size: tuple[int, int], crop: float) -> None:
    how = Preprocessing(size, crop=crop, crop_mode=mode, mean=(0.0,) * 3, std=(1.0,) * 3)
    for seed, shape in enumerate([(50, 71), (33, 32), (20, 90), (61, 60), (40, 24)]):
        given = picture(seed, shape)
        expected = (how.transform()(given) * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pixels(given, resizing(how)), expected)


def test_what_cannot_be_exported_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(VptError, match="depend on each image"):
        vpt.export(by_names("cocoop"), tmp_path / "model.pt2")
    with pytest.raises(VptError, match=r"end in \.onnx"):
        vpt.export(linear(), tmp_path / "model.bin")
    (tmp_path / "there.pt2").write_text("mine")
    with pytest.raises(VptError, match="is there already"):
        vpt.export(linear(), tmp_path / "there.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]


def test_a_file_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vpt.serving import export

    monkeypatch.setattr(export, "_traced", lambda program, images: None)
    monkeypatch.setattr(export, "_write_program", lambda *_: lambda images: np.full((len(images), 4), 0.25))
    with pytest.raises(VptError, match="does not say what the model says"):
        vpt.export(linear(), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("method", ALL)
def test_every_method_is_exported(method: str, kind: str, tmp_path: Path) -> None:
    heads = find(method).heads
    models = [made(method) for head, made in (("linear", linear), ("text", by_names)) if head in heads]
    for number, model in enumerate(models if method != "clip-lora" else [by_names(method)]):
        given = [picture(seed, (30, 24)) for seed in range(4)]
        facts = vpt.export(model, tmp_path / f"{number}.{kind}", images=given)
        assert facts["checked"]["largest difference"] < 1e-4


@pytest.mark.slow
def test_features_of_a_model_without_classes_are_exported(tmp_path: Path) -> None:
    model = vpt.attach(image_text_model(), "vpt-deep", classes=(), head="text")
    facts = vpt.export(model, tmp_path / "model.onnx", images=[picture(0, (16, 16))])
    assert facts["output"] == ["features"]
    assert isinstance(model, nn.Module)
