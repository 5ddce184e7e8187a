"""What a method does when training is over: it searches on validation images, or ends with an average of epochs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vpt
from tests.methods.test_adapters import CLASSES, clip
from vpt import VptError, config, experiment
from vpt.data.base import Arrays, DataSet


def photos(count: int, seed: int) -> Arrays:
    """Noise whose colour tells the class, not always rightly."""
    generator = np.random.default_rng(seed)
    labels = [index % 3 for index in range(count)]
    images = generator.integers(0, 120, (count, 16, 16, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label if generator.random() < 0.8 else generator.integers(3)] += 60
    return Arrays(images, labels, f"photos {seed}")


TRAIN, VAL = photos(12, 1), photos(30, 2)
FIT = {"batch_size": 6, "progress": False}


def made(method: str, **options: object) -> vpt.Prompted:
    torch.manual_seed(3)
    return vpt.attach(clip(), method, classes=CLASSES, **options).float()


def top1(model: vpt.Prompted, data: Arrays) -> float:
    return vpt.evaluate(model, data, progress=False)["top1"]


def test_tip_adapter_searches_on_validation_images() -> None:
    searched, left = made("tip-adapter"), made("tip-adapter", grid=None)
    result = vpt.fit(searched, TRAIN, VAL, **FIT)
    vpt.fit(left, TRAIN, VAL, **FIT)
    assert (left.method.cache.alpha.item(), left.method.cache.beta.item()) == (1.0, 5.5)
    image, text, scale = features(left, VAL)
    best = left.method.cache.search(image, torch.tensor(VAL.labels), text, scale)
    assert best > top1(made_as(left, alpha=1.0, beta=5.5), VAL)
    assert torch.equal(searched.method.cache.alpha, left.method.cache.alpha)
    assert torch.equal(searched.method.cache.beta, left.method.cache.beta)
    assert result.metrics["val/top1"] == pytest.approx(best)
    assert top1(searched, VAL) == pytest.approx(best)


def made_as(model: vpt.Prompted, *, alpha: float, beta: float) -> vpt.Prompted:
    again = made("tip-adapter", alpha=alpha, beta=beta)
    state = model.tuned_state()
    again.load_tuned_state(
        state
        | {
            "method.cache.alpha": state["method.cache.alpha"] * 0 + alpha,
            "method.cache.beta": state["method.cache.beta"] * 0 + beta,
        }
    )
    return again


def features(model: vpt.Prompted, data: Arrays) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    transform = model.preprocessing.transform()
    images = torch.stack([transform(data.image(index)) for index in range(len(data))])
    with torch.no_grad():
        return F.normalize(model.features(images), dim=-1), model.class_features(), model.text.scale()


def test_without_validation_images_nothing_is_searched() -> None:
    model = made("tip-adapter", alpha=2.0, beta=3.0)
    vpt.fit(model, TRAIN, **FIT)
    assert (model.method.cache.alpha.item(), model.method.cache.beta.item()) == (2.0, 3.0)


def test_a_grid_is_the_codes_own_and_leaves_its_end_out() -> None:
    model = made("tip-adapter", grid=(13.0, 9.0))
    vpt.fit(model, TRAIN, **FIT)
    tried: set[tuple[float, float]] = set()
    votes = model.method.cache._votes

    def seen(affinities: torch.Tensor, beta: float, num_classes: int) -> torch.Tensor:
        tried.add(beta)
        return votes(affinities, beta, num_classes)

    model.method.cache._votes = seen
    image, text, scale = features(model, VAL)
    model.method.cache.search(image, torch.tensor(VAL.labels), text, scale)
    assert len(tried) == 200
    assert (min(tried), max(tried)) == pytest.approx((0.1, 0.1 + 8.9 * 199 / 200))
    with pytest.raises(VptError, match="ends where it begins"):
        made("tip-adapter", grid=(0.1, 7.0))


def test_tip_adapter_f_searches_when_its_keys_are_trained(tmp_path: Path) -> None:
    model = made("tip-adapter-f")
    result = vpt.fit(model, TRAIN, VAL, epochs=3, optimizer="adamw", lr=0.01, run_dir=tmp_path / "run", **FIT)
    assert (model.method.cache.alpha.item(), model.method.cache.beta.item()) != (1.0, 5.5)
    assert result.metrics["val/top1"] >= max(row["val/top1"] for row in result.history)
    assert result.metrics["val/top1"] == pytest.approx(top1(model, VAL))
    kept = vpt.load(tmp_path / "run" / "best", backbone=clip().float())
    assert torch.equal(kept.method.cache.alpha, model.method.cache.alpha)


def test_the_cache_is_the_mean_of_views_as_they_come() -> None:
    model = made("tip-adapter", grid=None)
    views = [torch.tensor([[3.0] + [0.0] * 11, [0.0] * 12]), torch.tensor([[0.0, 1.0] + [0.0] * 10, [1.0] * 12])]
    from vpt.engine.evaluate import make_accelerator
    from vpt.engine.features import prepare_method

    prepare_method(model, TRAIN.subset([0, 1]), torch.stack(views), make_accelerator("fp32"))
    expected = torch.tensor([3.0, 1.0]) / 10**0.5
    torch.testing.assert_close(model.method.cache.keys[0, :2].cpu(), expected)


def test_validation_images_without_labels_in_hand_are_refused() -> None:
    with pytest.raises(
        VptError, match=r"tip-adapter chooses by features of validation images: give labelled `Samples`"
    ):
        vpt.fit(made("tip-adapter"), TRAIN, [(torch.zeros(3, 16, 16), 0)], **FIT)


def test_what_a_method_chooses_by_is_no_test_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = DataSet("photos", tuple(CLASSES), TRAIN, VAL, VAL.subset(range(4, 8)))
    monkeypatch.setattr(experiment, "read_data", lambda _: data)
    values = {"backbone": "vpt/clip-nano", "data": "digits", "out": tmp_path / "run"}
    with pytest.raises(VptError, match="4 validation images of photos are among its test images"):
        experiment.train(config.parse({**values, "method": "tip-adapter"}), progress=False)
    experiment.train(config.parse({**values, "method": {"name": "tip-adapter", "grid": None}}), progress=False)


def test_promptsrc_is_left_with_its_average_whatever_epoch_was_best() -> None:
    model = made("promptsrc", num_tokens=1, num_context=1, depth=1, init=None, mean=1.0, std=1.0)
    result = vpt.fit(model, TRAIN, VAL, epochs=3, lr=0.5, **FIT)
    assert result.best_epoch == 3
    for name, parameter in model.method.named_parameters():
        assert torch.equal(parameter, model.method.average.get_buffer(f"sum_{name.replace(chr(46), chr(95))}"))


@pytest.mark.parametrize("options", [{"keep": "best"}, {"patience": 2}, {"ema": 0.9}], ids=str)
def test_promptsrc_refuses_what_would_leave_its_average_out(options: dict[str, object]) -> None:
    model = made("promptsrc", num_tokens=1, num_context=1, depth=1, init=None)
    with pytest.raises(VptError, match=f"train.{next(iter(options))}.* would leave out the average over all epochs"):
        vpt.fit(model, TRAIN, VAL, epochs=3, **options, **FIT)


def test_prograd_corrects_the_gradient_of_a_whole_step_of_accumulated_batches() -> None:
    learned = []
    for batch_size, accumulate in ((12, 1), (6, 2), (4, 3)):
        model = made("prograd", num_tokens=6).double()
        options = {"batch_size": batch_size, "accumulate": accumulate, "lr": 5.0, "warmup_epochs": 0}
        vpt.fit(model, photos(24, 1), epochs=3, progress=False, **options)
        learned.append(model.method.context.values.detach())
    plain = made("prograd", num_tokens=6, lambd=0.0).double()
    vpt.fit(plain, photos(24, 1), epochs=3, progress=False, batch_size=12, lr=5.0, warmup_epochs=0)
    assert not torch.allclose(plain.method.context.values, learned[0], atol=1e-3)
    for values in learned[1:]:
        torch.testing.assert_close(values, learned[0], rtol=1e-5, atol=1e-7)
