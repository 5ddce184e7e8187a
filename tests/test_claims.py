"""Models that share a backbone."""

import copy
from pathlib import Path

import pytest

import vpt
from tests.zoo import vit
from vpt import VptError


def test_a_backbone_whose_weights_are_tuned_is_one_models_alone() -> None:
    backbone = vit()
    shares = [vpt.attach(backbone, name, num_classes=3) for name in ("vpt-deep", "linear")]
    with pytest.raises(
        VptError, match=r"bias tunes weights of a backbone that a model of .* shares with it: attach one"
    ):
        vpt.attach(backbone, "bias", num_classes=3)
    assert not any(parameter.requires_grad for parameter in shares[0].tower.parameters())
    tunes = vpt.attach(copy.deepcopy(backbone), "bias", num_classes=3)
    del shares
    again = vpt.attach(backbone, "bias", num_classes=3)
    with pytest.raises(VptError, match="bias tunes weights of a backbone that a model of vpt-deep shares with it"):
        vpt.attach(backbone, "vpt-deep", num_classes=3)
    assert again.num_tuned() == tunes.num_tuned()


def test_a_bank_of_a_live_backbone_leaves_what_another_model_tunes(tmp_path: Path) -> None:
    backbone = vit()
    vpt.attach(backbone, "vpt-deep", num_classes=3).save_pretrained(tmp_path / "task")
    tunes = vpt.attach(backbone, "bias", num_classes=3)
    bank = vpt.PromptBank(backbone)
    assert tunes.parameter_groups()["backbone"]
    with pytest.raises(VptError, match="bias tunes weights of a backbone that a model of vpt-deep shares with it"):
        bank.add("task", tmp_path / "task")
    assert tunes.parameter_groups()["backbone"]
