"""Methods that learn context of class names: the fast form is the definition, in values, gradients and training."""

from functools import partial
from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

import vpt
from tests.few import few
from tests.zoo import shaken
from vpt import VptError
from vpt.towers import packing

TOLERANCE = 1e-10
CLASSES = ["ant", "honey bee", "dragonfly on a leaf"]
LABELS = torch.tensor([0, 2, 1, 1])
WORDS = "a photo of a"

METHODS: dict[str, dict[str, object]] = {
    "coop": {"num_tokens": 3},
    "cocoop": {"num_tokens": 3, "init": None},
    "kgcoop": {},
    "prograd": {"num_tokens": 6},
    "atprompt": {"attributes": ["color", "shape"]},
    "tcp": {"num_tokens": 3, "reduction": 2},
    "coop+dept": {"num_tokens": 3},
    "mmrl": {"num_tokens": 3, "size": 8, "blocks": 1},
}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, options) for name, options in METHODS.items()},
    "prograd, words with a comma": ("prograd", {"init": "pet, a", "init_count": "words"}),
    "mmrl, two blocks": ("mmrl", {"num_tokens": 2, "size": 8, "blocks": 2}),
    "tcp, behind the first block": ("tcp", {"num_tokens": 2, "block": 1}),
    "coop, words": ("coop", {"init": WORDS}),
    "coop, name in the middle": ("coop", {"num_tokens": 3, "position": "middle"}),
    "coop, name in front": ("coop", {"num_tokens": 3, "position": "front"}),
    "coop, class-specific": ("coop", {"num_tokens": 3, "csc": True}),
    "coop, class-specific words": ("coop", {"init": WORDS, "csc": True}),
    "coop, class-specific, name in the middle": ("coop", {"num_tokens": 3, "csc": True, "position": "middle"}),
    "coop, class-specific, name in front": ("coop", {"num_tokens": 3, "csc": True, "position": "front"}),
}

VISION = {"layers": 3, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3}


def clip(kind: type[nn.Module] = CLIP, **text: object) -> nn.Module:
    vision_cfg = CLIPVisionCfg(**VISION)
    return shaken(partial(kind, embed_dim=32, vision_cfg=vision_cfg, text_cfg=CLIPTextCfg(**{**TEXT, **text})))


TOWERS = {
    "causal": clip,
    "custom text": partial(clip, CustomTextCLIP),
    "bidirectional": partial(clip, CustomTextCLIP, no_causal_mask=True),
    "class token": partial(clip, CustomTextCLIP, embed_cls=True),
}


def images(seed: int = 1, batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(method: str, towers: str = "causal", **options: object) -> vpt.Prompted:
    backbone = TOWERS[towers]()
    torch.manual_seed(2)
    return vpt.attach(backbone, method, **{"classes": CLASSES, **options}).double()


def prompted(variant: str, towers: str = "causal") -> vpt.Prompted:
    method, options = VARIANTS[variant]
    model = made(method, towers, **options)
    with torch.no_grad():
        # Away from values at which the method says what the frozen model says.
        for name, parameter in model.method.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
            if name.endswith("network.0.bias"):
                parameter.add_(1)  # A hidden unit that the ReLU shuts for every image would have no gradient.
    return model.train()


def tuned(model: vpt.Prompted) -> list[nn.Parameter]:
    return [parameter for group in model.parameter_groups().values() for parameter in group]


def loss(model: vpt.Prompted, *, plain: bool = False, seed: int = 1) -> tuple[Tensor, Tensor]:
    outputs = model.outputs(images(seed), plain=plain)
    return outputs.logits, model.method.loss(outputs, LABELS, 0.0)


def results(model: vpt.Prompted, *, plain: bool = False) -> list[Tensor]:
    """Logits, loss and gradients."""
    logits, value = loss(model, plain=plain)
    return [logits, value, *(torch.autograd.grad(value, tuned(model)) if tuned(model) else ())]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for got, wanted in zip(found, expected, strict=True):
        scale = wanted.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, wanted / scale, rtol=0, atol=TOLERANCE)


def steps(model: vpt.Prompted, *, plain: bool = False, count: int = 3) -> list[Tensor]:
    optimizer = torch.optim.SGD(tuned(model), lr=0.05, momentum=0.9)
    for seed in range(count):
        optimizer.zero_grad()
        loss(model, plain=plain, seed=seed)[1].backward()
        optimizer.step()
    return [parameter.detach() for parameter in tuned(model)]


@pytest.mark.parametrize("towers", TOWERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_fast_form_equals_the_definition(variant: str, towers: str) -> None:
    model = prompted(variant, towers)
    assert_close(results(model), results(model, plain=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_in_chunks_give_the_same(variant: str) -> None:
    model = prompted(variant)
    together = results(model)
    model.text.chunk = 2
    assert_close(results(model), together)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_in_several_rows_give_the_same(
    variant: str, once: bool, chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that each begin with what all begin with, and rows of attention alone."""
    model = prompted(variant)
    expected = results(model, plain=True)
    monkeypatch.setattr(packing, "rows_for", lambda counts, shared, *_, **__: (max(counts) + shared + 1, once))
    model.text.chunk = chunk
    assert_close(results(model), expected)


def test_so_they_do_where_blocks_are_called_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prompted("coop")
    expected = results(model, plain=True)
    seen: list[torch.Size] = []
    for layer in range(model.text.tower.depth):
        model.text.tower.block(layer).register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    monkeypatch.setattr(packing, "rows_for", lambda counts, shared, *_, **__: (max(counts) + shared + 1, True))
    assert_close(results(model), expected)
    assert len(seen) == model.text.tower.depth
    assert all(shape[0] > 1 for shape in seen)


@pytest.mark.parametrize("count", few([3, 20], {3}))
@pytest.mark.parametrize("method", METHODS)
def test_several_steps_of_training_equal_the_definition(method: str, count: int) -> None:
    assert_close(steps(prompted(method), count=count), steps(prompted(method), plain=True, count=count))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_means_frozen(method: str) -> None:
    model = prompted(method)
    frozen = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    steps(model)
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.frozen_state().items())
    assert all(p.grad is None for part in (model.tower, model.text) for p in part.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gradient_reaches_all_that_is_learned(variant: str) -> None:
    model = prompted(variant)
    loss(model)[1].backward()
    for parameter in tuned(model):
        rows = parameter.grad.flatten(0, -2) if parameter.ndim > 1 else parameter.grad[:, None]
        assert (rows.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_and_loaded_it_says_the_same(variant: str, tmp_path: Path) -> None:
    model = prompted(variant).float().eval()
    model.save_pretrained(tmp_path)
    loaded = vpt.load(tmp_path, backbone=clip())
    assert torch.equal(loaded(images().float()), model(images().float()))


def zero_shot(*templates: str, towers: str = "causal", classes: list[str] = CLASSES) -> vpt.Prompted:
    return made("zero-shot", towers, classes=classes, templates=templates)


def test_zero_shot_is_the_backbone_on_class_names_in_templates() -> None:
    import open_clip

    backbone = clip().double()
    expected = 0
    for template in ("a photo of a {}.", "{} texture."):
        ids = open_clip.tokenize([template.format(name) for name in CLASSES], context_length=16)
        expected = expected + backbone.encode_text(ids, normalize=True)
    expected = expected / expected.norm(dim=-1, keepdim=True)
    logits = backbone.logit_scale.exp() * backbone.encode_image(images(), normalize=True) @ expected.T
    model = zero_shot("a photo of a {}.", "{} texture.")
    assert_close([model(images())], [logits])
    assert model.num_tuned() == 0


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("towers", TOWERS)
def test_coop_begun_with_words_is_zero_shot_with_them(towers: str, csc: bool) -> None:
    model = made("coop", towers, init=WORDS, csc=csc)
    assert model.method.num_context == 4
    assert_close([model(images())], [zero_shot("a photo of a {}.", towers=towers)(images())])


@pytest.mark.parametrize(("position", "template"), [("middle", "a photo {} of a."), ("front", "{} a photo of a.")])
@pytest.mark.parametrize("towers", TOWERS)
def test_the_name_stands_where_it_is_asked_to(towers: str, position: str, template: str) -> None:
    model = made("coop", towers, init=WORDS, position=position)
    assert_close([model(images())], [zero_shot(template, towers=towers)(images())])


def test_as_many_tokens_as_the_words_have_not_as_many_words() -> None:
    model = made("coop", init="a photomicrograph of")
    assert model.method.num_context > 3
    assert_close([model(images())], [zero_shot("a photomicrograph of {}.")(images())])


def test_unified_context_is_drawn_as_published_and_class_specific_differs_by_class() -> None:
    values = made("coop", num_tokens=10, csc=True, classes=[str(i) for i in range(50)]).method.context.values
    assert values.shape == (50, 10, 16)
    assert abs(values.std() - 0.02) < 0.001
    assert not torch.equal(values[0], values[1])


def test_unified_context_takes_other_class_names() -> None:
    model, names = made("coop", init=WORDS), ["cat", "polar bear", "elk", "fox"]
    model(images())
    model.set_classes(names)
    assert_close([model(images())], [zero_shot("a photo of a {}.", classes=names)(images())])


def test_class_specific_context_says_why_it_cannot() -> None:
    model = made("coop", init=WORDS, csc=True)
    with pytest.raises(VptError, match="csc=True learned a context for each of its classes"):
        model.set_classes(["cat", "dog", "elk"])
    with pytest.raises(VptError, match="contexts for 3 class names, and not for 2 texts"):
        model.encode_text(model.tokenize(["one.", "two."]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_tokens": 0}, "num_tokens=0 leaves no context to learn"),
        ({"num_tokens": 13}, "13 tokens of context leave no place for class names in the 16 of a text"),
        ({"num_tokens": 5, "init": WORDS}, "init='a photo of a' is 4 tokens and num_tokens=5"),
        ({"init": " "}, "init=' ' cannot be context"),
        ({"init": "a " * 20}, "no more than a text has places for"),
        ({"position": "behind"}, "method.position='behind' will not do"),
        ({"csc": True, "num_tokens": 2, "classes": []}, "csc=True learns a context for each class"),
        ({"head": "linear"}, "coop takes text"),
    ],
)
def test_bad_options_are_told_in_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        made("coop", **options)
    assert sentence in str(error.value)


def test_a_name_cannot_be_put_first_where_the_encoder_does_not_tell_its_end() -> None:
    backbone = clip(CustomTextCLIP, no_causal_mask=True, pool_type="last")
    with pytest.raises(VptError, match="this text encoder does not tell where names end"):
        vpt.attach(backbone, "coop", classes=CLASSES, num_tokens=3, position="front")


def like(method: str, other: vpt.Prompted, **options: object) -> vpt.Prompted:
    """Another method with the context of `other`."""
    model = made(method, num_tokens=3, init=None, **options).train()
    with torch.no_grad():
        model.method.context.values.copy_(other.method.context.values)
    return model


def test_cocoop_with_a_meta_net_that_says_nothing_is_coop() -> None:
    coop = prompted("coop")
    model = like("cocoop", coop)
    nn.init.zeros_(model.method.context.network[2].weight)
    nn.init.zeros_(model.method.context.network[2].bias)
    found, expected = results(model), results(coop)
    assert_close(found[:3], expected)


def test_cocoop_moves_the_context_by_the_image() -> None:
    model = prompted("cocoop")
    outputs = model.outputs(images())
    assert outputs.text.shape == (4, 3, 32)
    alone = [model(images()[row : row + 1]) for row in range(4)]
    assert_close([outputs.logits], [torch.cat(alone)])
    assert not torch.allclose(outputs.text[0], outputs.text[1])


def test_texts_alone_have_no_features_with_cocoop() -> None:
    model = prompted("cocoop")
    with pytest.raises(VptError, match="its context depends on the image"):
        model.encode_text(model.tokenize(["an ant."]))


@pytest.mark.parametrize(("method", "options"), [("kgcoop", {"weight": 0.0}), ("prograd", {"lambd": 0.0})])
def test_without_its_second_part_a_method_is_coop(method: str, options: dict[str, object]) -> None:
    coop = prompted("coop")
    assert_close(results(like(method, coop, **options)), results(coop))


def test_kgcoop_adds_the_distance_from_the_templates() -> None:
    coop = prompted("coop")
    model = like("kgcoop", coop, weight=5.0)
    cosines = (coop.class_features() * zero_shot("a photo of a {}.").class_features()).sum(-1)
    assert_close([loss(model)[1]], [loss(coop)[1] + 5 * (1 - cosines.mean())])


def gradients(labels: Tensor, lambd: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the cross entropy, of the divergence from zero-shot probabilities, and ProGrad's."""
    coop = prompted("coop")
    logits, values = coop(images()), coop.method.context.values
    teacher = zero_shot("a photo of a {}.")(images()).detach()
    divergence = nn.functional.kl_div(logits.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    entropy = nn.functional.cross_entropy(logits, labels)
    found = [torch.autograd.grad(part, values, retain_graph=True)[0] for part in (entropy, divergence)]
    model = like("prograd", coop, lambd=lambd)
    value = model.method.loss(model.outputs(images()), labels, 0.0)
    assert_close([value], [entropy])
    return (*found, torch.autograd.grad(value, model.method.context.values)[0])


def test_prograd_takes_no_step_against_the_templates() -> None:
    agree, conflict = 0, 0
    for label in range(3):
        labels = torch.full((4,), label)
        entropy, guide, found = gradients(labels, lambd=0.8)
        along = (entropy * guide).sum()
        if along >= 0:
            agree += 1
            assert_close([found], [entropy])
        else:
            conflict += 1
            assert_close([found], [entropy - 0.8 * along / guide.square().sum() * guide])
            assert_close([(gradients(labels, lambd=1.0)[2] * guide).sum()], [torch.zeros((), dtype=torch.float64)])
    assert agree
    assert conflict


def test_prograd_leaves_a_trained_scale_the_gradient_of_the_cross_entropy() -> None:
    found = []
    for method in ("coop", "prograd"):
        model = made(method, init=WORDS, learn_scale=True).train()
        loss(model)[1].backward()
        found.append(model.text.logit_scale.grad)
    assert_close(found[1:], found[:1])


def test_prograd_is_measured_without_gradients() -> None:
    with torch.no_grad():
        value = loss(prompted("prograd"))[1]
    assert not value.requires_grad


def test_prograd_begins_with_zeros_before_its_words() -> None:
    values = made("prograd", num_tokens=6).method.context.values
    assert torch.equal(values[0, :2], torch.zeros(2, 16, dtype=torch.float64))
    assert torch.equal(values[:, 2:], made("coop", init=WORDS).method.context.values)


PET = "a type of pet, a photo of a"


def test_prograd_can_count_words_as_its_code_does() -> None:
    tokens, words = (made("prograd", num_tokens=10, init=PET, init_count=count) for count in ("tokens", "words"))
    # A comma is a token: of ten vectors the last nine, or eight, begin as words.
    assert torch.equal(words.method.context.values[:, 2:], tokens.method.context.values[:, 1:9])
    assert not words.method.context.values[:, :2].any()
    assert words.method.template == "a {}."
    ids = words.tokenize(["a ant."])
    (row,) = words.method.context.codes(ids, words.text.tower.lengths(ids), 1)
    assert row[1:11].tolist() == [-2 - j for j in range(10)]
    assert row[11] == ids[0, 1]


@pytest.mark.parametrize("count", ["tokens", "words"])
def test_prograd_without_zeros_is_zero_shot_with_all_its_words(count: str) -> None:
    model = made("prograd", init=PET, init_count=count)
    assert model.method.num_context == {"tokens": 9, "words": 8}[count]
    assert_close([model(images())], [zero_shot(f"{PET} {{}}.")(images())])


def test_words_and_tokens_of_words_alone_are_the_same() -> None:
    model = made("prograd", init=WORDS, init_count="words")
    assert (model.method.template, model.method.num_context) == ("{}.", 4)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("prograd", {"init": "a photomicrograph", "init_count": "words"}, "its first 2 tokens end within one"),
        ("kgcoop", {"weight": -1.0}, "weight=-1.0 would drive class features from the templates'"),
        ("prograd", {"lambd": 2.0}, "lambd=2.0 must lie between 0"),
        ("prograd", {"num_tokens": 2}, "init='a photo of a' is 4 tokens and num_tokens=2"),
    ],
)
def test_bad_weights_are_told_in_a_sentence(method: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        made(method, **options)
    assert sentence in str(error.value)
