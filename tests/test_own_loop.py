"""Loops and heads of one's own: the loss, the moments and the tokens of a model, and entry points of other packages."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vpt
from tests.methods.test_combined import Own, OwnGates
from tests.parity.test_text_methods import CLASSES, clip, images
from tests.zoo import images_for, vit
from vpt import methods
from vpt.errors import VptError

LABELS = torch.tensor([0, 2, 1])


def test_the_loss_of_a_batch_is_the_method_s() -> None:
    model = vpt.attach(clip(), "kgcoop", classes=CLASSES, weight=3.0).double()
    batch = images(batch=3)
    outputs = model.outputs(batch)
    distance = 1 - (outputs.text * outputs.frozen_text).sum(-1).mean()
    expected = F.cross_entropy(outputs.logits, LABELS) + 3 * distance
    torch.testing.assert_close(model.loss((batch, LABELS)), expected)
    smooth = F.cross_entropy(outputs.logits, LABELS, label_smoothing=0.1) + 3 * distance
    torch.testing.assert_close(model.loss((batch, LABELS), label_smoothing=0.1), smooth)


def test_a_loop_of_one_s_own_has_every_moment() -> None:
    model = vpt.attach(clip(), "tip-adapter-f", classes=CLASSES).double().train()
    batch = images(batch=3)
    model.prepare(batch, LABELS)
    optimizer = torch.optim.SGD(model.method.parameters(), lr=0.1)
    losses = []
    for epoch in range(1, 4):
        loss = model.loss((batch, LABELS))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.end_epoch(epoch, 3)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    before = float(model.method.cache.alpha)
    model.search(batch, LABELS)
    assert float(model.method.cache.alpha) != before


def test_moments_that_a_method_has_not_do_nothing() -> None:
    model = vpt.attach(vit(), "vpt-deep", num_classes=3)
    model.prepare(images_for(vit()), LABELS)
    model.search(images_for(vit()), LABELS)
    model.end_epoch(1, 1)


@pytest.mark.parametrize("method", ["vpt-deep", "vpt-shallow", OwnGates])
@pytest.mark.parametrize("after", [0, 1, None])
def test_tokens_after_a_block_are_those_of_the_plain_form(method: object, after: int | None) -> None:
    model = vpt.attach(vit(), method, num_classes=3, num_tokens=4).double()
    batch = images_for(model.tower.model)
    found = model.tokens(batch, after=after)
    layer = model.tower.depth if after is None else after + 1
    prompts = model.method.image_prompts
    x = model.tower.embed(batch)
    for index in range(layer):
        x = model.tower.advance(index, prompts.plain(index, x))
    torch.testing.assert_close(found, prompts.strip(x), rtol=0, atol=1e-12)
    found.sum().backward()
    assert prompts.values.grad is not None


def test_tokens_before_their_block_is_none() -> None:
    model = vpt.attach(vit(), "linear", num_classes=3)
    with pytest.raises(VptError, match="after=3: the backbone has blocks 0 to 2"):
        model.tokens(images_for(vit()), after=3)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return found


def test_a_head_of_one_s_own_is_trained_saved_and_given_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batch = vpt.attach(vit(), "vpt-deep", num_classes=3, head=Head()).train(), images_for(vit())
    groups = model.parameter_groups()
    assert sum(p.numel() for p in groups["head"]) == sum(p.numel() for p in Head().parameters())
    model.loss((batch, LABELS)).backward()
    torch.optim.SGD([p for group in groups.values() for p in group], lr=0.1).step()
    model.save_pretrained(tmp_path / "own")
    with pytest.raises(VptError, match="was saved with a head of its maker's own: give such a module"):
        vpt.load(tmp_path / "own", backbone=vit())
    loaded = vpt.load(tmp_path / "own", backbone=vit(), head=Head())
    assert torch.equal(loaded(batch), model.eval()(batch))


def test_a_head_is_not_given_to_a_model_that_has_one(tmp_path: Path) -> None:
    vpt.attach(vit(), "linear", num_classes=3).save_pretrained(tmp_path / "linear")
    with pytest.raises(VptError, match="was saved with head='linear': leave head=… out"):
        vpt.load(tmp_path / "linear", backbone=vit(), head=Head())


def test_an_entry_point_makes_a_name_of_another_package_s_method(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("own", f"{Own.__module__}:Own", methods.GROUP)
    monkeypatch.setattr(methods, "installed", lambda: {"own": point})
    assert methods.find("own") is Own
    assert methods.called(Own)[0] == "own"
    assert vpt.attach(vit(), "own", num_classes=3).recipe["method"]["name"] == "own"
