"""The backbones that come with the package."""

import pytest
import torch

import vpt
from vpt.towers.embedded import ASSETS
from vpt.towers.load import load, names


@pytest.mark.parametrize("name", names("vpt"))
def test_an_embedded_backbone_is_small_has_a_card_and_loads_offline(name: str) -> None:
    folder = ASSETS / name.removeprefix("vpt/")
    images_alone, with_texts = ({f"{kind}config.json", f"{kind}model.safetensors"} for kind in ("", "open_clip_"))
    beside = {"README.md", "LICENSE"}
    found = {path.name for path in folder.iterdir()}
    assert beside < found
    assert found - beside in (images_alone, with_texts)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    backbone = load(name)
    images = torch.zeros(1, 3, *backbone.preprocessing.size)
    assert backbone.tower.embed(images).isfinite().all()


def test_vit_nano_knows_more_than_chance() -> None:
    """Digits by the nearest class mean of its features: 10 % is chance, its pixels' own means give about 89 %."""
    data = vpt.data.load("digits")
    model = vpt.create("vpt/vit-nano", "linear", classes=data.classes)
    transform = model.preprocessing.transform()

    def features(samples: vpt.data.base.Samples) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([transform(samples.image(i)) for i in range(200)])
        with torch.no_grad():
            return model.features(images), torch.tensor(samples.labels[:200])

    train, labels = features(data.train)
    test, truth = features(data.test)
    means = torch.stack([train[labels == label].mean(0) for label in range(10)])
    assert (torch.cdist(test, means).argmin(-1) == truth).float().mean() > 0.5
