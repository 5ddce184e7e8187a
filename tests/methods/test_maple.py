"""IVLP, MaPLe and PromptSRC: known equalities, the words that context begins as, losses and averages by hand."""

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

import vpt
from tests.zoo import shaken
from vpt import VptError

CLASSES = ["ant", "honey bee"]
LABELS = torch.tensor([0, 1, 1])
JOINT = ["ivlp", "maple", "promptsrc"]


@cache
def clip() -> CLIP:
    def make() -> CLIP:
        vision = CLIPVisionCfg(layers=3, width=24, head_width=8, patch_size=8, image_size=16, mlp_ratio=2.0)
        return CLIP(12, vision, CLIPTextCfg(context_length=16, vocab_size=49408, width=16, heads=2, layers=2))

    return shaken(make).double()


def prompted(method: str, **options: object) -> vpt.Prompted:
    torch.manual_seed(3)
    return vpt.attach(clip(), method, classes=CLASSES, **options).double()


def images() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def loss_of(model: vpt.Prompted) -> Tensor:
    return model.method.loss(model.outputs(images()), LABELS, 0.1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_ivlp_given_the_values_of_maple_is_maple() -> None:
    maple, ivlp = prompted("maple"), prompted("ivlp")
    ivlp.method.context.values.copy_(maple.method.context.values)
    ivlp.method.prompts.values.copy_(torch.cat([maple.method.prompts.prompts(layer, 1) for layer in range(2)]))
    close(ivlp(images()), maple(images()))


def test_depths_of_the_two_sides_of_ivlp_are_apart() -> None:
    both = prompted("ivlp", depth=2)
    deeper, language = prompted("ivlp", image_depth=3, text_depth=2), prompted("ivlp", image_depth=0, text_depth=2)
    close(deeper.class_features(), both.class_features())
    close(language.class_features(), both.class_features())
    close(F.normalize(language.features(images()), dim=-1), clip().encode_image(images(), normalize=True))
    assert [len(model.method.prompts.values) for model in (both, deeper)] == [2, 3]
    assert set(dict(language.method.named_parameters())) == {"context.values"}
    assert language.image_is_frozen


def test_promptsrc_with_zero_weights_is_ivlp() -> None:
    options = {"num_tokens": 4, "num_context": 4}
    found = prompted("promptsrc", text_weight=0.0, image_weight=0.0, logit_weight=0.0, **options)
    ivlp = prompted("ivlp", **options)
    for model in (found, ivlp):
        loss_of(model).backward()
    assert torch.equal(loss_of(found), loss_of(ivlp))
    for name, parameter in ivlp.method.named_parameters():
        assert torch.equal(found.method.get_parameter(name).grad, parameter.grad)


@pytest.mark.parametrize("method", JOINT)
@pytest.mark.parametrize("num_context", [1, 2, 3, 4])
def test_the_context_begins_as_words_and_the_other_words_stay(method: str, num_context: int) -> None:
    model = prompted(method, num_context=num_context, depth=1)
    template = ["", "photo of a {}.", "of a {}.", "a {}.", "{}."][num_context]
    assert model.method.template == template
    close(model.class_features(), prompted("vpt-deep", head="text").class_features())


def test_tokens_that_end_within_a_word_are_no_context() -> None:
    with pytest.raises(VptError, match="no words at the beginning of init='dragonflybee x' are num_context=1 tokens"):
        prompted("ivlp", init="dragonflybee x", num_context=1)
    with pytest.raises(VptError, match="num_context=5 tokens: give another number, or init=None"):
        prompted("ivlp", num_context=5)


def test_image_prompts_of_maple_are_the_text_prompts_of_their_block_projected() -> None:
    method = prompted("maple").method
    for layer in range(2):
        close(method.prompts.prompts(layer, 1)[0], method.prompts.project[layer](method.context.values[layer]))


def test_the_layers_of_maple_begin_apart_in_the_first_block_and_as_one_in_the_others() -> None:
    torch.manual_seed(0)
    first, *others = vpt.attach(shaken(deeper), "maple", classes=CLASSES).method.prompts.project
    assert torch.equal(others[0].weight, others[1].weight)
    assert others[0].weight is not others[1].weight
    assert not torch.equal(first.weight, others[0].weight)


def deeper() -> CLIP:
    vision = CLIPVisionCfg(layers=3, width=24, head_width=8, patch_size=8, image_size=16, mlp_ratio=2.0)
    return CLIP(12, vision, CLIPTextCfg(context_length=16, vocab_size=49408, width=16, heads=2, layers=3))


@torch.no_grad()
def test_frozen_text_of_promptsrc_is_the_mean_of_features_of_sixty_templates() -> None:
    model, backbone = prompted("promptsrc"), clip()
    tokenizer = model.text.tower.tokenizer
    texts = [[sentence(name) for name in CLASSES] for sentence in OPENAI_IMAGENET_TEMPLATES[:60]]
    features = torch.stack([backbone.encode_text(tokenizer(each, 16)) for each in texts]).mean(0)
    outputs = model.outputs(images())
    close(outputs.frozen_text, F.normalize(features, dim=-1))
    close(outputs.frozen_image, backbone.encode_image(images(), normalize=True))


@torch.no_grad()
def test_the_loss_of_promptsrc_is_its_formula() -> None:
    model = prompted("promptsrc", text_weight=3.0, image_weight=5.0, logit_weight=7.0)
    outputs = model.outputs(images())
    p = outputs.logits.softmax(1)
    frozen = (outputs.scale * outputs.frozen_image @ outputs.frozen_text.T).softmax(1)
    divergence = (frozen * (frozen.log() - p.log())).sum(1).mean() / len(CLASSES)
    text = (outputs.text - outputs.frozen_text).abs().mean()
    image = (outputs.image - outputs.frozen_image).abs().mean()
    entropy = F.cross_entropy(outputs.logits, LABELS)
    expected = entropy + 3 * text + 5 * image + 7 * divergence
    found = model.method.loss(outputs, LABELS, 0.0)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def epochs(method: Any, values: list[float]) -> None:
    for epoch, value in enumerate(values, start=1):
        for parameter in method.parameters():
            parameter.fill_(value)
        method.end_epoch(epoch, len(values))


def test_prompts_of_promptsrc_end_as_the_weighted_sum_of_their_epochs() -> None:
    method = prompted("promptsrc", mean=2.0, std=1.5).method
    values = [3.0, -1.0, 4.0, 7.0]
    weights = torch.tensor([-0.5 * ((e - 2) / 1.5) ** 2 for e in (1, 2, 3, 4)], dtype=torch.float64).exp()
    expected = (weights / weights.sum() * torch.tensor(values, dtype=torch.float64)).sum()
    for _ in range(2):
        epochs(method, values)
        for parameter in method.parameters():
            close(parameter.detach(), expected.expand_as(parameter))


def test_prompts_of_promptsrc_are_left_alone_before_the_last_epoch() -> None:
    method = prompted("promptsrc").method
    before = method.context.values.detach().clone()
    method.end_epoch(1, 20)
    assert torch.equal(method.context.values, before)


def test_the_weights_of_epochs_far_from_the_mean_still_add_up() -> None:
    method = prompted("promptsrc", mean=500.0, std=1.0).method
    epochs(method, [1.0, 2.0])
    close(method.context.values.detach(), torch.full_like(method.context.values, 2.0))


def test_a_sum_goes_on_where_it_was_interrupted() -> None:
    whole, first, second = (prompted("promptsrc", mean=2.0) for _ in range(3))
    epochs(whole.method, [3.0, 5.0])
    with torch.no_grad():
        for parameter in first.method.parameters():
            parameter.fill_(3.0)
        first.method.end_epoch(1, 2)
        second.load_tuned_state(first.tuned_state())
        for parameter in second.method.parameters():
            parameter.fill_(5.0)
        second.method.end_epoch(2, 2)
    for name, tensor in whole.tuned_state().items():
        close(second.tuned_state()[name], tensor)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("ivlp", {"num_tokens": 0}, "num_tokens=0 leaves no prompt to learn: give 1 or more"),
        ("maple", {"num_context": 0}, "num_context=0 leaves no prompt to learn"),
        ("maple", {"num_context": 14, "init": None}, "num_context=14 leaves no place for words: a text has 16"),
        ("maple", {"depth": 3}, "depth=3: maple takes 1 to 2, the blocks of the shallower encoder"),
        ("promptsrc", {"depth": 0}, "depth=0: promptsrc takes 1 to 2"),
        ("ivlp", {"text_depth": 0}, "text_depth=0: ivlp takes 1 to 2 blocks"),
        ("ivlp", {"image_depth": 4}, "image_depth=4: ivlp takes 0 to 3 blocks"),
        ("promptsrc", {"image_weight": -1.0}, "image_weight=-1.0 would drive prompts from the frozen model"),
        ("promptsrc", {"std": 0.0}, "std=0.0 is no width of a Gaussian over epochs: give more than 0"),
    ],
)
def test_options_out_of_range(method: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        prompted(method, **options)
    assert sentence in str(error.value)


def test_a_linear_head_has_no_text_to_prompt() -> None:
    with pytest.raises(VptError, match="head='linear': maple takes text"):
        prompted("maple", head="linear")
