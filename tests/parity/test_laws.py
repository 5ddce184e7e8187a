"""The four laws of the design, for every architecture: identity, attention only, method equality, frozen."""

import pytest
import torch

import vpt
from tests.few import several
from tests.zoo import EXAMPLES, Example
from vpt.towers.load import wrap

TOLERANCE = 1e-10

METHODS = {
    "linear": {},
    "full": {},
    "bias": {},
    "partial-k": {"k": 2},
    "vpt-shallow": {"num_tokens": 5},
    "vpt-deep": {"num_tokens": 5},
}

VARIANTS = {
    **{name: (name, options) for name, options in METHODS.items()},
    "first two blocks": ("vpt-deep", {"num_tokens": 2, "first": 2}),
    "last two blocks": ("vpt-deep", {"num_tokens": 2, "last": 2}),
    "last block": ("vpt-deep", {"num_tokens": 2, "last": 1}),
    "shared": ("vpt-deep", {"num_tokens": 2, "shared": True}),
    "projected": ("vpt-deep", {"num_tokens": 2, "project": 6}),
    "prompt dropout": ("vpt-deep", {"num_tokens": 4, "dropout": 0.4}),
    "shallow with dropout": ("vpt-shallow", {"num_tokens": 4, "dropout": 0.4}),
    "from patches": ("vpt-deep", {"num_tokens": 2, "init": "patches"}),
}

# By default every variant on three architectures, and two of them on the others.
WHOLE = ("class token", "hf clip", "open_clip")
OFTEN = ("vpt-deep", "first two blocks")
PAIRS = several(
    [(name, variant) for name in EXAMPLES for variant in VARIANTS],
    {(name, variant) for name in EXAMPLES for variant in VARIANTS if name in WHOLE or variant in OFTEN},
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_identity_is_bitwise_in_float32(name: str) -> None:
    example = EXAMPLES[name]
    model, images = example.make().float(), example.images(dtype=torch.float32)
    tower = wrap(model).tower
    x = tower.embed(images)
    for layer in range(tower.depth):
        x = tower.advance(layer, x)
    assert torch.equal(tower.readout(x), example.features(model, images))


def test_advance_is_the_block_on_context_and_tokens(example: Example) -> None:
    tower = wrap(example.make().double()).tower
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 6, tower.width, generator=generator, dtype=torch.float64)
    shared = torch.randn(1, 4, tower.width, generator=generator, dtype=torch.float64)
    own = torch.randn(3, 2, tower.width, generator=generator, dtype=torch.float64)
    for layer in range(tower.depth):
        together = torch.cat([shared.expand(3, -1, -1), own, x], dim=1)
        expected = tower.run(layer, together)[:, 6:]
        torch.testing.assert_close(tower.advance(layer, x, [shared, own]), expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("additive", [False, True], ids=["boolean mask", "additive mask"])
def test_a_masked_token_is_not_seen(example: Example, additive: bool) -> None:
    tower = wrap(example.make().double()).tower
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, tower.width, generator=generator, dtype=torch.float64)
    context = torch.randn(1, 3, tower.width, generator=generator, dtype=torch.float64)
    seen = torch.ones(4, 7, dtype=torch.bool)
    seen[:, 1] = False
    mask = torch.zeros(4, 7, dtype=torch.float64).masked_fill(~seen, -torch.inf) if additive else seen
    expected = tower.advance(0, x, context[:, [0, 2]])
    torch.testing.assert_close(tower.advance(0, x, context, mask), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_path_of_each_block_is_told_with_its_reason(example: Example) -> None:
    tower = wrap(example.make()).tower
    whole = {layer for layer in range(tower.depth) if tower.path(layer).startswith("whole block: ")}
    assert whole == example.whole


def prompted(example: Example, variant: str) -> vpt.Prompted:
    torch.manual_seed(4)
    method, options = VARIANTS[variant]
    model = vpt.attach(example.make(), method, num_classes=5, **options).double()
    if model.needs_images:
        model.initialise(example.images())
    return model.train()


def values_and_gradients(model: vpt.Prompted, images: torch.Tensor, plain: bool) -> list[torch.Tensor]:
    torch.manual_seed(5)
    features = model.features(images, plain=plain)
    loss = (features * torch.linspace(-1, 1, features.shape[1], dtype=features.dtype)).sum() + features.pow(2).sum()
    learned = model.parameter_groups()
    tuned = learned.get("prompts", []) + learned.get("backbone", [])
    gradients = torch.autograd.grad(loss, tuned, allow_unused=True) if tuned else ()
    return [features, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_the_fast_form_equals_the_definition(name: str, variant: str) -> None:
    example = EXAMPLES[name]
    model = prompted(example, variant)
    images = example.images()
    fast = values_and_gradients(model, images, plain=False)
    plain = values_and_gradients(model, images, plain=True)
    assert len(fast) == len(plain)
    for got, expected in zip(fast, plain, strict=True):
        scale = expected.abs().max().clamp(min=1.0)
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_frozen_means_frozen(name: str, variant: str) -> None:
    example = EXAMPLES[name]
    model = prompted(example, variant)
    frozen = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    optimizer = torch.optim.AdamW([p for group in model.parameter_groups().values() for p in group], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(example.images()).logsumexp(-1).sum().backward()
        optimizer.step()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.frozen_state().items())
    assert all(p.grad is None for name, p in model.tower.named_parameters() if f"tower.{name}" in frozen)


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_a_gradient_reaches_every_prompt_and_the_head(name: str, variant: str) -> None:
    example = EXAMPLES[name]
    model = prompted(example, variant)
    model(example.images()).square().sum().backward()
    groups = model.parameter_groups()
    for parameter in groups.get("prompts", []) + groups["head"]:
        rows = parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]
        assert (rows.abs().sum(1) > 0).all()
