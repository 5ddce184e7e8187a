"""Methods that learn from features alone, each against its paper's arithmetic, by itself and over twenty steps."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vpt
from tests.engine.test_capture import Drawn
from tests.engine.test_fit import QUIET
from tests.methods.test_adapters import CLASSES, LABELS, TRAIN, adapted, clip, features, images
from vpt import VptError

# One batch of all training images, by a rate that stays.
RUN = {**QUIET, "epochs": 20, "batch_size": 64, "schedule": "annealing", "weight_decay": 0.0, "keep": "last"}


def fitted(
    method: str, lr: float, views: int = 1, **options: object
) -> tuple[vpt.Prompted, Tensor, Tensor, Tensor, Tensor]:
    """A model after twenty steps; features of its images, their labels, and those of the classes with lengths."""
    torch.manual_seed(3)
    model = vpt.attach(clip(), method, classes=CLASSES, **options).double()
    data = Drawn()
    seen = torch.stack([model.preprocessing.transform()(data.image(i)) for i in range(len(data))]).double()
    with torch.no_grad():
        image = F.normalize(model.features(seen), dim=-1)
        text = model.encode_text(model.tokenize([f"a photo of a {name}." for name in CLASSES]))
    torch.manual_seed(3)
    vpt.fit(model, data, **{**RUN, "lr": lr, "min_lr": lr, "views": views})
    return model, image, torch.tensor(data.labels), text, model.text.scale().detach()


def sgd(learned: Tensor, lr: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    learned = learned.clone().requires_grad_()
    velocity = torch.zeros_like(learned)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(learned), learned)
        velocity = 0.9 * velocity + gradient
        learned = (learned - lr * velocity).detach().requires_grad_()
    return learned.detach()


def normalised(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def test_taskres_adds_a_residual_to_features_with_their_lengths() -> None:
    model, image, labels, text, scale = fitted("taskres", 0.05, alpha=0.7)
    learned = sgd(
        torch.zeros_like(text),
        0.05,
        lambda x: F.cross_entropy(scale * image @ normalised(text + 0.7 * x).T, labels),
    )
    torch.testing.assert_close(model.method.residuals.weight.detach(), learned, rtol=0, atol=1e-10)
    assert learned.abs().max() > 1e-3
    expected = scale * features(model, images())[0] @ normalised(text + 0.7 * learned).T
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-10)


def test_clap_penalises_what_zero_shot_knows_well() -> None:
    model, image, labels, text, scale = fitted("clap", 0.05)
    right = (scale * image @ normalised(text).T).softmax(-1)[torch.arange(len(labels)), labels]
    penalties = torch.stack([right[labels == c].mean() for c in range(3)])

    def loss(weight: Tensor) -> Tensor:
        entropy = F.cross_entropy(scale * image @ normalised(weight).T, labels)
        return entropy + (penalties * (weight - text).pow(2).sum(-1)).mean()

    learned = sgd(text, 0.05, loss)
    torch.testing.assert_close(model.method.rows.weight.detach(), learned, rtol=0, atol=1e-10)
    assert (learned - text).abs().max() > 1e-3
    assert penalties.std() > 1e-3


def test_clap_sees_every_view_and_no_class_without_images() -> None:
    model = adapted("clap")
    views = torch.cat([features(model, TRAIN)[0], features(model, images(7, seed=8))[0]])
    labels = torch.tensor([0, 1] * 7)
    model.prepare(views, labels)
    right = model.method.rows.penalties
    text, scale = features(model, TRAIN)[1:]
    found = (scale * views @ text.T).softmax(-1)[labels == 1, 1].mean()
    torch.testing.assert_close(right[1], found, rtol=0, atol=1e-12)
    assert right[2] == 0


def test_cross_modal_trains_on_texts_as_much_as_on_images() -> None:
    model, image, labels, text, scale = fitted("cross-modal", 0.05)
    unit = normalised(text)

    def loss(weight: Tensor) -> Tensor:
        of_images = F.cross_entropy(scale * image @ weight.T, labels)
        return of_images / 2 + F.cross_entropy(scale * unit @ weight.T, torch.arange(3)) / 2

    learned = sgd(unit, 0.05, loss)
    torch.testing.assert_close(model.method.rows.weight.detach(), learned, rtol=0, atol=1e-10)
    assert (learned - unit).abs().max() > 1e-3


def test_lp_plus_plus_takes_the_steps_of_its_code() -> None:
    model, image, labels, text, _ = fitted("lp++", 1.0)
    probe, text = model.method.probe, normalised(text)
    rate = 4 * len(image) / torch.linalg.eigvalsh(image.T @ image).max()
    alpha_rate = len(image) / (4 * (image @ text.T).pow(2).sum(0).max())
    weight = torch.stack([image[labels == c].sum(0) for c in range(3)])
    mean = torch.stack([(image[labels == c] @ text.T).mean() for c in range(3)]).mean()
    alpha = (250 * mean).expand(3).clone()
    torch.testing.assert_close(probe.rate, rate, rtol=1e-12, atol=0)
    # The bias begins at random.
    torch.manual_seed(3)
    fresh = vpt.attach(clip(), "lp++", classes=CLASSES).double()
    torch.manual_seed(3)
    fresh.prepare(image, labels)
    bias = (fresh.method.probe.bias * rate.sqrt()).detach()
    torch.testing.assert_close(fresh.method.probe.weight.detach() * rate.sqrt(), weight, rtol=0, atol=1e-10)

    velocity, total = [torch.zeros_like(weight), torch.zeros_like(bias)], torch.zeros_like(alpha)
    for step in range(20):
        parts = [part.detach().requires_grad_() for part in (weight, bias, alpha)]
        loss = F.cross_entropy(image @ parts[0].T + parts[1] + parts[2] * (image @ text.T), labels)
        gradients = torch.autograd.grad(loss, parts)
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients[:2], strict=True)]
        weight, bias = weight - rate * velocity[0], bias - rate * velocity[1]
        total = total + gradients[2]
        alpha = alpha - alpha_rate * total if step % 10 == 9 else alpha
    torch.testing.assert_close(probe.alpha.detach(), alpha, rtol=0, atol=1e-9)
    torch.testing.assert_close(probe.weight.detach() * rate.sqrt(), weight, rtol=0, atol=1e-9)
    assert (alpha - alpha[0]).abs().max() > 1e-6


@pytest.mark.parametrize("views", [0, 1])
def test_prolip_trains_the_projection_and_computes_the_rest_once(views: int) -> None:
    model, _, labels, text, scale = fitted("prolip", 0.05, views=views, weight=0.3)
    data = Drawn()
    seen = torch.stack([model.preprocessing.transform()(data.image(i)) for i in range(len(data))]).double()
    backbone, unit = clip(), normalised(text)
    start = backbone.visual.proj.detach()
    backbone.visual.proj = None
    with torch.no_grad():
        pooled, new = backbone.visual(seen), backbone.visual(images())

    def loss(weight: Tensor) -> Tensor:
        logits = scale * normalised(pooled @ weight) @ unit.T
        return F.cross_entropy(logits, labels) + 0.3 * (weight - start).pow(2).sum()

    learned = sgd(start, 0.05, loss)
    torch.testing.assert_close(model.tower.model.proj.detach(), learned, rtol=0, atol=1e-10)
    assert (learned - start).abs().max() > 1e-3
    expected = scale * normalised(new @ learned) @ unit.T
    torch.testing.assert_close(model(images()), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(model(model.kept(images())), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.features(images(), plain=True), new @ learned, rtol=0, atol=1e-10)
    model.set_classes(["cat", "dog"])
    assert model(images()).shape == (4, 2)


def test_prolip_needs_a_projection() -> None:
    backbone = clip()
    backbone.visual.proj = None
    with pytest.raises(VptError, match="prolip trains the projection of the image encoder, and this one has no"):
        vpt.attach(backbone, "prolip", classes=CLASSES)


@pytest.mark.parametrize("inverse", ["shrunk", "pseudo"])
def test_gda_is_its_formula(inverse: str) -> None:
    model = adapted("gda", alpha=0.25, inverse=inverse)
    x, (image, text, scale) = features(model, TRAIN)[0], features(model, images())
    means = torch.stack([x[c == LABELS].mean(0) for c in range(3)])
    if inverse == "shrunk":
        covariance = (x - means[LABELS]).T.cov()
        precision = 12 * torch.linalg.inv(6 * covariance + covariance.trace() * torch.eye(12, dtype=torch.float64))
    else:
        precision = torch.linalg.pinv(torch.stack([x[c == LABELS].T.cov() for c in range(3)]).mean(0))
    weight = means @ precision
    expected = scale * image @ text.T + 0.25 * (image @ weight.T - (weight * means).sum(-1) / 2)
    torch.testing.assert_close(model(images()), expected, rtol=1e-6 if inverse == "pseudo" else 1e-10, atol=1e-6)


def test_gda_chooses_alpha_by_validation_images() -> None:
    model = adapted("gda", grid=(0.0, 0.5, 50.0))
    image, labels = features(model, images(40, seed=9))[0], torch.arange(40) % 3
    scores = {}
    for alpha in (0.0, 0.5, 50.0):
        model.method.gaussians.alpha.fill_(alpha)
        scores[alpha] = (model(images(40, seed=9)).argmax(-1) == labels).double().mean().item()
    assert len(set(scores.values())) > 1
    model.search(image, labels)
    assert float(model.method.gaussians.alpha) == max(scores, key=scores.__getitem__)


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("taskres", {"alpha": 0.0}, "alpha=0.0 leaves nothing to learn"),
        ("gda", {"alpha": -1.0}, "alpha=-1.0 would turn images against themselves"),
        ("gda", {"neighbours": -1}, "neighbours=-1: give how many"),
        ("prolip", {"weight": -1.0}, "weight=-1.0 would drive the projection"),
    ],
)
def test_what_is_out_of_range_is_told(method: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.attach(clip(), method, classes=CLASSES, **options)
    assert sentence in str(error.value)


def test_gaussians_need_images_of_every_class() -> None:
    model = adapted("gda")
    with pytest.raises(VptError, match="gda has no training image of 1 of 3 classes"):
        model.prepare(features(model, TRAIN)[0], LABELS.clamp(max=1))


def test_a_model_takes_what_it_keeps_of_images() -> None:
    torch.manual_seed(3)
    model = vpt.attach(clip(), "mmrl", classes=CLASSES, size=8, num_tokens=2).double().eval()
    kept = model.kept(images())
    assert kept.shape == (4, 12 + 16)
    torch.testing.assert_close(model(kept), model(images()), rtol=0, atol=1e-12)
    with pytest.raises(VptError, match="which has 28"):
        model(model.features(images()))
    # Of new classes the class feature alone says something.
    before, known = model(images()), model.text.scale() * F.normalize(kept[:, :12], dim=-1) @ model.class_features().T
    model.set_classes(["fly", "cat", "ant"])
    torch.testing.assert_close(model(images())[:, 0], before[:, 2], rtol=0, atol=1e-10)
    model.set_classes(["ant", "cat", "dog"])
    text = model.class_features()
    expected = model.text.scale() * F.normalize(kept[:, :12], dim=-1) @ text.T
    torch.testing.assert_close(model(images())[:, 1:], expected[:, 1:], rtol=0, atol=1e-10)
    assert (known - before).abs().max() > 1e-3
