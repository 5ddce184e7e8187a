"""Methods that adapt features, not tokens: each against its formula, in training, and through a folder."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

import vpt
from tests.zoo import shaken
from vpt import VptError

CLASSES = ["ant", "honey bee", "fly"]
METHODS = {
    "clip-adapter": {},
    "tip-adapter": {"alpha": 2.0, "beta": 3.0},
    "tip-adapter-f": {"alpha": 2.0, "beta": 3.0},
    "linear-text": {},
    "taskres": {},
    "clap": {},
    "cross-modal": {},
    "lp++": {},
    "gda": {},
}
TRAINED = [method for method in METHODS if method not in ("tip-adapter", "gda")]
PREPARED = [method for method in METHODS if method != "clip-adapter"]


def clip(**text: object) -> CLIP:
    def make() -> CLIP:
        vision = CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=16, mlp_ratio=2.0)
        own = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
        return CLIP(embed_dim=12, vision_cfg=vision, text_cfg=CLIPTextCfg(**own, **text))

    return shaken(make).double()


def images(count: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 16, generator=generator, dtype=torch.float64)


TRAIN, LABELS = images(7, seed=2), torch.tensor([0, 1, 2, 0, 1, 2, 1])


def features(model: vpt.Prompted, of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of images and of the classes, L2-normalised, and the scale."""
    with torch.no_grad():
        return F.normalize(model.features(of), dim=-1), model.class_features(), model.text.scale()


def adapted(method: str, **options: object) -> vpt.Prompted:
    """With the cache or the weights set from `TRAIN`, where the method has them."""
    torch.manual_seed(3)
    model = vpt.attach(clip(), method, classes=CLASSES, **{**METHODS[method], **options}).double()
    if method in PREPARED:
        model.prepare(features(model, TRAIN)[0], LABELS)
    return model


def zero_shot(model: vpt.Prompted, of: Tensor) -> Tensor:
    image, text, scale = features(model, of)
    return scale * image @ text.T


def train(model: vpt.Prompted, steps: int) -> list[float]:
    model.train()
    learned = [p for group in model.parameter_groups().values() for p in group]
    optimizer, losses = torch.optim.SGD(learned, lr=0.01), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(TRAIN), LABELS)
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def test_clip_adapter_is_its_formula() -> None:
    model = adapted("clip-adapter")
    raw, (_, text, scale) = model.features(images()), features(model, images())
    first, second = model.method.features.image.down.weight, model.method.features.image.up.weight
    assert (first.shape, second.shape) == ((3, 12), (12, 3))
    # The paper's code adapts features before they are normalised.
    mixed = 0.2 * ((raw @ first.T).clamp(min=0) @ second.T).clamp(min=0) + 0.8 * raw
    expected = scale * (mixed / mixed.norm(dim=-1, keepdim=True)) @ text.T
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-10)
    assert (expected - zero_shot(model, images())).abs().max() > 1e-3


def test_clip_adapter_with_nothing_mixed_in_is_zero_shot() -> None:
    model = adapted("clip-adapter", ratio=0.0)
    torch.testing.assert_close(model(images()), zero_shot(model, images()), rtol=0, atol=1e-10)


def test_clip_adapter_takes_other_classes() -> None:
    model = adapted("clip-adapter")
    model.set_classes(["cat", "dog"])
    assert model(images()).shape == (4, 2)


@pytest.mark.parametrize("option", [{"reduction": 0}, {"reduction": 13}, {"ratio": 1.5}])
def test_clip_adapter_refuses_what_is_out_of_range(option: dict[str, float]) -> None:
    with pytest.raises(VptError, match=next(iter(option))):
        adapted("clip-adapter", **option)


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_tip_adapter_is_its_formula(method: str) -> None:
    model = adapted(method)
    image, text, scale = features(model, images())
    keys, values = features(model, TRAIN)[0], F.one_hot(LABELS, 3).double()
    expected = scale * image @ text.T + 2.0 * torch.exp(-3.0 * (1 - image @ keys.T)) @ values
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", PREPARED)
def test_before_its_data_are_seen_a_method_is_zero_shot(method: str) -> None:
    model = vpt.attach(clip(), method, classes=CLASSES).double()
    assert model.num_tuned() == 0
    torch.testing.assert_close(model(images()), zero_shot(model, images()), rtol=0, atol=1e-12)
    if method in TRAINED:
        with pytest.raises(VptError, match="call prepare before the first step"):
            model.train()(images())


def test_the_cache_normalises_means_over_augmented_views() -> None:
    model = adapted("tip-adapter")
    views = torch.stack([features(model, images(7, seed=seed))[0] for seed in (5, 6)]).mean(0)
    model.method.classifier.prepare(views, LABELS, *features(model, TRAIN)[1:])
    torch.testing.assert_close(model.method.cache.keys, views / views.norm(dim=-1, keepdim=True), rtol=0, atol=1e-12)


def test_tip_adapter_trains_nothing_and_tip_adapter_f_its_keys() -> None:
    assert adapted("tip-adapter").num_tuned() == 0
    model = adapted("tip-adapter-f")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"method.cache.keys"}
    assert model.num_tuned() == 7 * 12


def test_a_search_finds_what_is_best_on_validation_images() -> None:
    model = adapted("tip-adapter")
    image, text, scale = features(model, images(40, seed=9))
    labels = torch.randint(3, (40,), generator=torch.Generator().manual_seed(0))
    alphas, betas = [0.5, 5.0, 500.0], [0.1, 4.0]
    keys, values = model.method.cache.keys, F.one_hot(LABELS, 3).double()
    scores = {
        (alpha, beta): float(
            ((scale * image @ text.T + alpha * torch.exp(-beta * (1 - image @ keys.T)) @ values).argmax(-1) == labels)
            .double()
            .mean()
        )
        for beta in betas
        for alpha in alphas
    }
    found = model.method.cache.search(image, labels, text, scale, alphas=alphas, betas=betas)
    assert len(set(scores.values())) > 1
    assert found == max(scores.values())
    assert (float(model.method.cache.alpha), float(model.method.cache.beta)) == max(scores, key=scores.__getitem__)


def test_the_searched_grid_is_as_large_as_the_papers() -> None:
    model = adapted("tip-adapter")
    image, text, scale = features(model, TRAIN)
    assert model.method.cache.search(image, LABELS, text, scale) >= (model(TRAIN).argmax(-1) == LABELS).double().mean()
    assert 0.1 <= float(model.method.cache.alpha) <= 3
    assert 0.1 <= float(model.method.cache.beta) <= 7


def test_a_search_needs_a_cache_and_images() -> None:
    model = adapted("tip-adapter")
    image, text, scale = features(model, TRAIN)
    with pytest.raises(VptError, match="no validation images"):
        model.method.cache.search(image[:0], LABELS[:0], text, scale)
    empty = vpt.attach(clip(), "tip-adapter", classes=CLASSES).double()
    with pytest.raises(VptError, match="call prepare before search"):
        empty.method.cache.search(image, LABELS, text, scale)


def test_linear_text_is_its_formula_and_starts_as_zero_shot() -> None:
    model = adapted("linear-text")
    assert model.num_tuned() == 3 * 12
    torch.testing.assert_close(model(images()), zero_shot(model, images()), rtol=0, atol=1e-12)
    train(model, 2)
    image, _, scale = features(model, images())
    expected = scale * image @ model.method.rows.weight.T
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-12)
    assert (expected - zero_shot(model, images())).abs().max() > 1e-3


@pytest.mark.parametrize("method", TRAINED)
def test_training_moves_what_is_learned_alone(method: str) -> None:
    model = adapted(method)
    frozen = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    learned = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
    losses = train(model, 8)
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.frozen_state().items())
    moved = {name for name, tensor in model.tuned_state().items() if not torch.equal(tensor, learned[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("method", METHODS)
def test_image_and_text_features_stay_frozen(method: str) -> None:
    model = adapted(method)
    assert model.image_is_frozen
    assert model.text.frozen_under(model.method)
    before = model.class_features()
    if method in TRAINED:
        train(model, 1)
    # Computed once, however often what is learned changes.
    again = model.class_features()
    assert torch.equal(again, before) if model.method.classifier.lengths else again is before


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_is_the_same_model(method: str, tmp_path: Path) -> None:
    model = adapted(method)
    if method in TRAINED:
        train(model, 2)
    else:
        model.method.classifier.alpha.fill_(0.7)
    model.save_pretrained(tmp_path / "saved")
    again = vpt.load(tmp_path / "saved", backbone=clip())
    assert again.num_tuned() == model.num_tuned()
    torch.testing.assert_close(again.double()(images()), model(images()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", PREPARED)
def test_saved_sizes_are_taken_by_the_parameters_that_an_optimizer_knows(method: str) -> None:
    model, fresh = adapted(method), vpt.attach(clip(), method, classes=CLASSES).double()
    known = [p for group in fresh.parameter_groups().values() for p in group]
    fresh.load_tuned_state(model.tuned_state())
    assert torch.equal(fresh(images()), model(images())) or method == "tip-adapter"
    assert all(a is b for a, b in zip(known, (p for p in fresh.parameters() if p.requires_grad), strict=True))


@pytest.mark.parametrize("method", PREPARED)
def test_tensors_of_another_width_are_refused(method: str) -> None:
    state = adapted(method).tuned_state()
    name = next(name for name, tensor in state.items() if tensor.ndim == 2)
    state[name] = state[name][:, :5]
    with pytest.raises(VptError, match=f"the saved {name} has shape"):
        vpt.attach(clip(), method, classes=CLASSES).load_tuned_state(state)


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_what_belongs_to_its_classes_refuses_others(method: str) -> None:
    with pytest.raises(VptError, match="classes"):
        adapted(method).set_classes(["cat", "dog"])
