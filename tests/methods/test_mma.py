"""MMA: adapters beside blocks, against the paper's code as written out, with its scaled gradients."""

import pytest
import torch
from torch import Tensor, nn

import vpt
from tests.methods.test_adapters import CLASSES, clip, images
from vpt import VptError


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is scaled."""

    @staticmethod
    def forward(context: object, x: Tensor, factor: float) -> Tensor:
        context.factor = factor  # type: ignore[attr-defined]
        return x.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None  # type: ignore[attr-defined]


def adapted(part: nn.Module, index: int, y: Tensor, scale: float) -> Tensor:
    shared = part._bridge[0].layers[index]
    x = part.down[index](Scaled.apply(y, scale)).relu()
    return scale * Scaled.apply(part.up[index](shared(x).relu()), 1 / scale)


def plain(model: vpt.Prompted, pixels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Features of images, and of texts one by one, by hooks beside open_clip's own blocks."""
    backbone, handles = clip(), []
    for transformer, part in (
        (backbone.visual.transformer, model.method.image),
        (backbone.transformer, model.method.text),
    ):
        for index, block in enumerate(transformer.resblocks[part.first :]):

            def hook(
                block: nn.Module, args: tuple[Tensor], out: Tensor, part: nn.Module = part, i: int = index
            ) -> Tensor:
                return out + adapted(part, i, block.ln_1(args[0]), scale)

            handles.append(block.register_forward_hook(hook))
    ids = model.tokenize([f"a photo of a {name}." for name in CLASSES])
    return backbone.encode_image(pixels), backbone.encode_text(ids)


def made(blocks: int | None) -> vpt.Prompted:
    torch.manual_seed(3)
    model = vpt.attach(clip(), "mma", classes=CLASSES, blocks=blocks, rank=4, scale=0.05).double().train()
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def plain_logits(model: vpt.Prompted, pixels: Tensor) -> Tensor:
    image, text = plain(model, pixels, 0.05)
    image, text = image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
    return model.text.scale() * image @ text.T


def test_twenty_steps_are_those_of_the_papers_code() -> None:
    labels, learned = torch.tensor([0, 1, 2, 0]), []
    for form in (lambda model, pixels: model.outputs(pixels).logits, plain_logits):
        model = made(None)
        tuned = list(model.method.parameters())
        updates = torch.optim.SGD(tuned, lr=0.01, momentum=0.9)
        for step in range(20):
            updates.zero_grad()
            torch.nn.functional.cross_entropy(form(model, images(seed=step)), labels).backward()
            updates.step()
        learned.append([parameter.detach() for parameter in tuned])
    for got, wanted in zip(*learned, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)
    began = made(None).method.parameters()
    assert any((after - before).abs().max() > 1e-3 for after, before in zip(learned[0], began, strict=True))


@pytest.mark.parametrize("blocks", [None, 1])
def test_values_and_gradients_are_those_of_the_papers_code(blocks: int | None) -> None:
    model = made(blocks)
    outputs, expected = model.outputs(images()), plain_logits(model, images())
    torch.testing.assert_close(outputs.logits, expected, rtol=0, atol=1e-10)
    learned, weights = list(model.method.parameters()), torch.randn_like(expected)
    found = torch.autograd.grad((outputs.logits * weights).sum(), learned)
    wanted = torch.autograd.grad((expected * weights).sum(), learned)
    for got, gradient in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-9, atol=1e-9)
        assert gradient.abs().max() > 0
    torch.testing.assert_close(model.outputs(images(), plain=True).logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "sentence"), [({"blocks": 3}, "blocks=3: mma takes 1 to 2"), ({"rank": 0}, "rank=0")]
)
def test_what_is_out_of_range_is_told(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(clip(), "mma", classes=CLASSES, **options)
