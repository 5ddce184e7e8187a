"""Images in whatever form they are at hand."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vpt
from tests.tape import TapeRecorder
from tests.text_models import CLASSES, image_text_model
from tests.zoo import vit
from vpt import VptError
from vpt.capture import Graphs
from vpt.predict import as_picture
from vpt.predict_files import predict_files
from vpt.use import search

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
CHW = torch.from_numpy(PIXELS).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16) * 257,
        PIXELS.astype(np.float32) / 255,
        np.asfortranarray(PIXELS[:, ::-1])[:, ::-1],
        np.dstack([PIXELS, np.full((20, 30), 255, np.uint8)]),
        CHW,
        CHW.float() / 255,
        CHW.double() / 255,
        CHW.clone().requires_grad_(False),
    ],
)
def test_every_form_of_one_image_is_the_same_picture(image: object) -> None:
    assert np.array_equal(np.asarray(as_picture(image)), PIXELS)


@pytest.mark.parametrize(
    "grey", [PIXELS[..., 0], PIXELS[..., :1], CHW[0], CHW[:1], Image.fromarray(PIXELS[..., 0]), PIXELS[..., 0] / 255]
)
def test_grey_becomes_rgb(grey: object) -> None:
    assert np.array_equal(np.asarray(as_picture(grey)), np.repeat(PIXELS[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (PIXELS.transpose(2, 0, 1), r"shape \(3, 20, 30\) is not \(H, W, C\) with C of 1, 3 or 4"),
        (torch.zeros(20, 30, 3), r"shape \(20, 30, 3\) is not \(C, H, W\)"),
        (np.zeros((0, 3, 3)), "is not"),
        (torch.randn(3, 8, 8), "give it as it was before normalisation"),
        (np.full((4, 4), np.nan), "values from nan"),
        (np.full((4, 4), 300), "values from 300 to 300, not 0 to 255"),
        ({"image": PIXELS}, "a dict is no image"),
        (None, "a NoneType is no image"),
    ],
)
def test_what_is_no_image_is_said(image: object, sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        as_picture(image)


def test_one_image_a_list_and_a_batch(tmp_path: Path) -> None:
    model = vpt.attach(vit(), "linear", classes=["ant", "bee"])
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    one = model.predict(tmp_path / "a.png")
    assert model.predict(PIXELS) == model.predict(CHW) == one
    assert model.predict([PIXELS, str(tmp_path / "a.png")]) == [one, one]
    for batch in (PIXELS[None], CHW[None], CHW[None].float() / 255):
        found = model.predict(batch)
        assert [each.label for each in found] == [one.label]
    assert model.predict([]) == []


def test_a_strip_that_becomes_thinner_than_a_pixel_is_told(tmp_path: Path) -> None:
    model = vpt.attach(vit(), "linear", num_classes=2, preprocessing={"crop_mode": "border"})
    Image.new("RGB", (1, 300)).save(tmp_path / "line.png")
    sentence = r"of 1 × 300 pixels, cannot be transformed .*: remove it, or crop it"
    with pytest.raises(VptError, match=f"an image, {sentence}"):
        model.predict(tmp_path / "line.png")
    (path, found), *_ = predict_files(model, [tmp_path / "line.png"])
    assert path.name == "line.png"
    assert isinstance(found, VptError)
    assert re.search(f"line.png, {sentence}", str(found))


def test_what_cannot_be_predicted_leaves_the_model_as_it_was() -> None:
    model = vpt.attach(vit(), "linear", num_classes=2).train()
    with pytest.raises(VptError, match="there is no image"):
        model.predict("missing.png")
    assert model.training
    with pytest.raises(TypeError, match="images is a NoneType"):
        model.predict(None)
    with pytest.raises(VptError, match="batch_size=0"):
        model.predict([PIXELS], batch_size=0)


def test_images_in_memory_files_and_searches_go_through_one_captured_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vpt.attach(image_text_model(), "vpt-deep", classes=CLASSES, head="text")
    paths = []
    for index in range(13):
        paths.append(tmp_path / f"{index:02}.png")
        Image.fromarray(np.roll(PIXELS, index, axis=1)).save(paths[-1])
    paths[3].write_text("no picture")
    monkeypatch.setattr("vpt.predict_files.BATCH", 2)
    monkeypatch.setattr("vpt.use.find_images_of", lambda folders: paths)
    monkeypatch.setattr("vpt.use._model", lambda *_: model)
    expected = dict(predict_files(model, paths))
    ranked, broken = search("model", "a dog", tmp_path)
    recorder = TapeRecorder()
    for module in ("vpt.predict", "vpt.use"):
        monkeypatch.setattr(
            f"{module}.repeated", lambda function, model, calls: Graphs(function, recorder, failed=pytest.fail)
        )
    found = dict(predict_files(model, paths))
    assert recorder.replayed > recorder.captured == 1
    good = [path for path in paths if path != paths[3]]
    assert [found[path].scores for path in good] == [pytest.approx(expected[path].scores) for path in good]
    assert str(found[paths[3]]) == str(expected[paths[3]])
    assert [each.scores for each in model.predict(good, batch_size=2)] == [
        pytest.approx(expected[path].scores) for path in good
    ]
    again, still = search("model", "a dog", tmp_path)
    assert (dict(again), still) == (pytest.approx(dict(ranked), abs=1e-5), broken)
    assert recorder.captured == 3
