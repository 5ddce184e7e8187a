"""2SFS: norms, then rows, each with its own optimizer and cosine, in one run."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.engine.test_capture import Drawn
from tests.engine.test_fit import QUIET
from tests.methods.test_adapters import CLASSES, clip, images
from tests.tape import TapeRecorder
from vpt import VptError
from vpt.engine import prepare

RUN: dict[str, Any] = {
    **QUIET,
    **{"epochs": 10, "batch_size": 64, "optimizer": "adamw", "lr": 0.01, "min_lr": 1e-4, "weight_decay": 0.1},
    **{"schedule": "annealing", "keep": "last"},
}


def fitted() -> vpt.Prompted:
    torch.manual_seed(3)
    model = vpt.attach(clip(), "2sfs", classes=CLASSES).double()
    vpt.fit(model, Drawn(), **RUN)
    return model


def adamw(parameters: list[nn.Parameter], steps: int, loss: Any) -> None:
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-4 + (0.01 - 1e-4) * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_both_stages_are_those_of_two_runs() -> None:
    model, backbone, data = fitted(), clip(), Drawn()
    seen = torch.stack([model.preprocessing.transform()(data.image(i)) for i in range(len(data))]).double()
    labels = torch.tensor(data.labels)
    ids = model.tokenize([f"a photo of a {name}." for name in CLASSES])
    scale = backbone.logit_scale.exp().detach()

    def similarities(image: Tensor, text: Tensor) -> Tensor:
        return scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T

    backbone.requires_grad_(False)
    norms = [p for module in backbone.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()]
    for parameter in norms:
        parameter.requires_grad_(True)
    adamw(
        norms,
        6,
        lambda: F.cross_entropy(similarities(backbone.encode_image(seen), backbone.encode_text(ids)), labels),
    )
    with torch.no_grad():
        image, new, text = backbone.encode_image(seen), backbone.encode_image(images()), backbone.encode_text(ids)
    rows = nn.Parameter(text.clone())
    adamw([rows], 4, lambda: F.cross_entropy(similarities(image, rows), labels))
    torch.testing.assert_close(model.method.rows.weight.detach(), rows.detach(), rtol=0, atol=1e-8)
    assert (rows - text).abs().max() > 1e-3
    torch.testing.assert_close(model(images()), similarities(new, rows.detach()), rtol=0, atol=1e-7)
    torch.testing.assert_close(model(images()).argmax(-1), model.outputs(images(), plain=True).logits.argmax(-1))
    model.set_classes(["fly", "cat"])
    other = backbone.encode_text(model.tokenize(["a photo of a cat."])).detach()
    expected = similarities(new, torch.cat([rows.detach()[2:], other]))
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-7)


def test_a_captured_run_is_captured_anew_where_a_stage_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, recorder = fitted(), TapeRecorder()
    monkeypatch.setattr(prepare, "recorder_of", lambda *_, **__: recorder)
    torch.testing.assert_close(fitted()(images()), expected(images()), rtol=0, atol=1e-8)


def test_a_saved_model_knows_its_stage(tmp_path: Path) -> None:
    model = fitted()
    model.save_pretrained(tmp_path / "saved")
    again = vpt.load(tmp_path / "saved", backbone=clip().float())
    torch.testing.assert_close(again.double()(images()), model(images()), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("run", "sentence"),
    [({"schedule": "coop", "min_lr": 0.0}, "train.schedule=coop"), ({"epochs": 1}, "2 or more")],
)
def test_what_has_no_stages_is_told(run: dict[str, Any], sentence: str) -> None:
    model = vpt.attach(clip().float(), "2sfs", classes=CLASSES)
    with pytest.raises(VptError, match=sentence):
        vpt.fit(model, Drawn(), **{**RUN, **run})
