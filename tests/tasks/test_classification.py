"""Metrics of classification against scikit-learn's, and the calibration error against its definition."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

import vpt
from tests.zoo import vit
from vpt.tasks.classification import Classification


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 7, (200,))
    logits = torch.randn(200, 7) + 2 * torch.nn.functional.one_hot(labels, 7)
    # Some that float32's softmax makes 1 and 0.
    return torch.cat([logits, 90 * logits[:50]]), torch.cat([labels, labels[:50]])


def test_metrics_are_those_of_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = scored
    metrics = Classification(7).metrics()
    for part, truth in zip(logits.split(64), labels.split(64), strict=True):
        metrics.update(part, truth)
    values = {name: value.numpy() for name, value in metrics.compute().items()}
    guesses = logits.argmax(-1)
    assert values["top1"] == pytest.approx(accuracy_score(labels, guesses))
    assert values["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert values["mean_per_class"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert (values["confusion"] == confusion_matrix(labels, guesses)).all()


def test_the_mean_per_class_is_over_classes_that_have_images() -> None:
    labels, guesses = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 1])
    metrics = Classification(4).metrics()
    metrics.update(torch.eye(4)[guesses], labels)
    assert metrics.compute()["mean_per_class"] == 0.5


def test_calibration_error_is_the_weighted_gap_in_fifteen_bins(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = scored
    metrics = Classification(7).metrics()
    metrics.update(logits, labels)
    probabilities = logits.softmax(-1)
    assert (probabilities == 1).any()
    confidence, right = probabilities.max(-1).values.numpy(), (probabilities.argmax(-1) == labels).numpy()
    bins = np.clip((confidence * 15).astype(int), 0, 14)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    assert metrics.compute()["ece"].item() == pytest.approx(sum(gaps), abs=1e-6)


def test_top_five_of_fewer_classes_is_the_top_of_all() -> None:
    metrics = Classification(3).metrics()
    metrics.update(torch.eye(3), torch.tensor([1, 2, 0]))
    assert metrics.compute()["top5"] == 1


@pytest.mark.parametrize(("dtype", "of_loss"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_the_loss_is_in_the_precision_of_the_model_and_never_in_half(dtype: torch.dtype, of_loss: torch.dtype) -> None:
    model = vpt.attach(vit().to(dtype), "linear", num_classes=2).to(dtype)
    images, labels = torch.randn(2, 3, 32, 32, dtype=dtype), torch.tensor([0, 1])
    loss, logits, _ = Classification(2).loss(model, (images, labels))
    assert loss.dtype == of_loss
    assert torch.equal(loss.detach(), torch.nn.functional.cross_entropy(logits.to(of_loss), labels))


def test_what_is_measured_and_shown_of_a_double_model_is_in_double() -> None:
    data = [(image, int(label)) for image, label in zip(torch.randn(6, 3, 32, 32), [0, 1] * 3, strict=True)]
    model = vpt.attach(vit(), "linear", num_classes=2).double()
    images, labels = torch.stack([image for image, _ in data]).double(), torch.tensor([0, 1] * 3)
    expected = torch.nn.functional.cross_entropy(model(images), labels).item()
    assert vpt.evaluate(model, data, batch_size=4, progress=False)["loss"] == pytest.approx(expected, abs=1e-14)
    result = vpt.fit(model, data, epochs=1, lr=0.0, batch_size=4, progress=False)
    assert result.history[0]["train/loss"] == pytest.approx(expected, abs=1e-14)
