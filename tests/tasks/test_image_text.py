"""Contrastive losses against their formulas."""

import pytest
import torch
import torch.nn.functional as F

import vpt
from tests.text_models import CLASSES, image_text_model
from vpt.tasks.image_text import ImageText


@pytest.fixture
def model() -> vpt.Prompted:
    return vpt.attach(image_text_model(logit_bias=-3.0), "full", head="text").double()


def batch(model: vpt.Prompted) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return images, model.tokenize([f"a {name}" for name in CLASSES])


def test_infonce_is_the_cross_entropy_of_both_directions(model: vpt.Prompted) -> None:
    images, ids = batch(model)
    loss, similarities, targets = ImageText().loss(model, (images, ids))
    image, text = model.compare(images, ids)
    logits = model.text.scale() * image @ text.T + model.text.logit_bias
    labels = torch.arange(3)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(similarities, (image @ text.T).detach())
    assert targets.tolist() == [0, 1, 2]


def test_sigmoid_takes_every_pair_by_itself(model: vpt.Prompted) -> None:
    images, ids = batch(model)
    loss, _, _ = ImageText(loss="sigmoid").loss(model, (images, ids))
    image, text = model.compare(images, ids)
    logits = model.text.scale() * image @ text.T + model.text.logit_bias
    signs = 2 * torch.eye(3, dtype=torch.float64) - 1
    torch.testing.assert_close(loss, -F.logsigmoid(signs * logits).sum() / 3, rtol=1e-12, atol=1e-12)


def test_sigmoid_needs_a_logit_bias() -> None:
    model = vpt.attach(image_text_model(), "full", head="text").double()
    with pytest.raises(vpt.VptError, match="needs a model with a logit bias"):
        ImageText(loss="sigmoid").loss(model, batch(model))
