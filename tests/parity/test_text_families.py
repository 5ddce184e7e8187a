"""Methods on text encoders that hide their padding and read their first token: the fast form is the plain one."""

import pytest
import torch
from torch import Tensor

import vpt
from tests.text_zoo import END, LENGTH, START, transformers_model
from tests.zoo import shaken

OPTIONS = {"ChineseCLIP": {}, "AltCLIP": {"max_position_embeddings": LENGTH + 1}, "MetaClip2": {}, "Siglip2": {}}


def tokenizer(texts: list[str], context_length: int = LENGTH) -> Tensor:
    """A number for each word, filled up with zeros."""
    found = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in enumerate(texts):
        words = [2 + sum(map(ord, word)) % 30 for word in text.split()]
        ids = [START, *words[: context_length - 2], END]
        found[row, : len(ids)] = torch.tensor(ids)
    return found


def prompted(kind: str, method: str) -> vpt.Prompted:
    torch.manual_seed(3)
    model = shaken(lambda: transformers_model(kind, **OPTIONS[kind]))
    given = {"tokenizer": tokenizer, "preprocessing": {"mean": [0.5, 0.5, 0.5]}}
    options = {} if method == "zero-shot" else {"num_tokens": 2, "init": None}
    return vpt.attach(model, method, classes=["a dog", "a small dog", "cat"], **given, **options).double()


def values(model: vpt.Prompted, plain: bool) -> list[Tensor]:
    images = torch.randn(2, 3, *model.preprocessing.size, generator=torch.Generator().manual_seed(1)).double()
    logits = model.outputs(images, plain=plain).logits
    learned = [p for group in model.parameter_groups().values() for p in group]
    gradients = torch.autograd.grad(logits.pow(2).sum(), learned, allow_unused=True) if learned else ()
    return [logits, *(each for each in gradients if each is not None)]


@pytest.mark.parametrize("method", ["zero-shot", "coop", "cocoop"])
@pytest.mark.parametrize("kind", ["ChineseCLIP", "AltCLIP"])
def test_the_fast_form_of_a_method_equals_its_plain_form(kind: str, method: str) -> None:
    model = prompted(kind, method)
    for got, expected in zip(values(model, plain=False), values(model, plain=True), strict=True):
        scale = expected.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["MetaClip2", "Siglip2"])
def test_families_of_clip_and_siglip_take_context_too(kind: str) -> None:
    model = prompted(kind, "coop")
    for got, expected in zip(values(model, plain=False), values(model, plain=True), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_padding_is_not_seen() -> None:
    tower = prompted("ChineseCLIP", "zero-shot").text.tower
    short, long = (tokenizer(["a dog"], length) for length in (4, LENGTH))
    one, other = (tower.embed(ids) for ids in (short, long))
    assert one[0].shape[1] == 4
    assert torch.equal(other[1].seen[0, 0], torch.arange(LENGTH) < 4)
