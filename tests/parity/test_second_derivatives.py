"""A penalty on gradients is the plain form's: nothing on the way is taken for a constant there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import vpt
from tests.text_models import CLASSES, image_text_model


def penalty(model: vpt.Prompted, images: Tensor, labels: Tensor, *, plain: bool) -> list[Tensor]:
    """Gradients of the squared gradient of a loss."""
    tuned = [parameter for group in model.parameter_groups().values() for parameter in group]
    if model.head is not None:
        logits = model.head(model.features(images, plain=plain))
    else:
        logits = model.outputs(images, plain=plain).logits
    first = torch.autograd.grad(F.cross_entropy(logits, labels), tuned, create_graph=True)
    return list(torch.autograd.grad(sum(gradient.square().sum() for gradient in first), tuned))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("vpt-deep", {"head": "linear"}),
        ("vpt-deep", {"head": "linear", "first": 1}),
        ("vpt-shallow", {"head": "text"}),
        ("coop", {}),
        ("cocoop", {}),
        ("maple", {}),
        ("clip-lora", {"dropout": 0.0}),
    ],
)
def test_second_derivatives_are_the_plain_forms(method: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = vpt.attach(image_text_model(), method, classes=CLASSES, **options).double().train()
    for parameter in model.method.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images, labels = torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 1])
    # No fused kernel can be differentiated twice.
    with sdpa_kernel(SDPBackend.MATH):
        fast, plain = (penalty(model, images, labels, plain=form) for form in (False, True))
    assert any(bool(gradient.abs().max() > 1e-6) for gradient in plain)
    for found, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
