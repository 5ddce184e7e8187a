"""What a model has learned, as it is kept and saved."""

from pathlib import Path

import pytest
import torch
from torch import nn

import vpt
from tests.zoo import vit


def probe() -> nn.Module:
    """A head of one's own with statistics, a frozen layer and one that is trained."""
    width = vit().num_features
    frozen = nn.Linear(width, 16).requires_grad_(False)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False), frozen, nn.Linear(16, 3))


def test_all_of_a_head_of_ones_own_is_saved_and_kept_of_the_best_epoch(tmp_path: Path) -> None:
    data = [(torch.randn(3, 32, 32) * 2 + 1, i % 3) for i in range(12)]
    model = vpt.attach(vit(), "vpt-deep", num_classes=3, head=probe())
    result = vpt.fit(model, data, data, epochs=4, batch_size=6, lr=0.5, progress=False)
    assert vpt.evaluate(model, data, progress=False)["loss"] == pytest.approx(result.metrics["val/loss"], rel=1e-5)
    model.save_pretrained(tmp_path / "saved")
    loaded = vpt.load(tmp_path / "saved", backbone=vit(), head=probe())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), model(images))


def test_what_is_frozen_by_hand_after_training_is_saved_too(tmp_path: Path) -> None:
    for method in ("vpt-deep", "bias"):
        model = vpt.attach(vit(), method, num_classes=3)
        before, frozen = model.tuned_state(), model.frozen_state().keys()
        model.requires_grad_(False)
        assert model.tuned_state().keys() == before.keys()
        assert model.frozen_state().keys() == frozen
        model.save_pretrained(tmp_path / method)
        assert torch.equal(vpt.load(tmp_path / method, backbone=vit()).head.weight, model.head.weight)


def test_statistics_of_an_encoder_that_is_trained_are_saved_though_their_norm_has_no_parameters() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4, affine=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).mean((2, 3))

    seen = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    tuned, frozen = (vpt.attach(Encoder(), method, num_classes=2, preprocessing=seen) for method in ("full", "linear"))
    assert any(name.endswith("running_var") for name in tuned.tuned_state())
    assert not any("running_var" in name for name in frozen.tuned_state())
