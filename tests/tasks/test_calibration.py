"""One temperature, errors of calibration, and images of no known class."""

import pytest
import torch

from vpt.report.reliability import reliability
from vpt.tasks.calibration import best_temperature, calibration, calibration_error
from vpt.tasks.unknown import known_score, separation


def drawn(count: int = 20_000, *, sharper: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels drawn from their softmax, the logits then multiplied."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 4, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return logits * sharper, labels


@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_logits_too_sharp(sharper: float) -> None:
    logits, labels = drawn(sharper=sharper)
    temperature = best_temperature(logits, labels)
    assert temperature == pytest.approx(sharper, rel=0.05)
    found = calibration(logits, labels, temperature)
    assert found["ece_calibrated"] < 0.015
    assert found["nll_calibrated"] <= found["nll"]
    if sharper == 3.0:
        assert found["ece"] > 0.1


@pytest.mark.parametrize("sharper", [2.0, 50.0])
def test_the_calibration_error_is_the_bins_weighted_gap(sharper: float) -> None:
    logits, labels = drawn(2000, sharper=sharper)
    logits = logits.float()
    confidence, said = logits.softmax(-1).max(-1)
    assert (confidence == 1).any() == (sharper == 50.0)
    rows = reliability(confidence, said == labels)
    assert sum(row["images"] for row in rows) == 2000
    gap = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / 2000
    assert gap == pytest.approx(calibration_error(logits.softmax(-1), labels), abs=1e-5)


def test_concept_matching_leaves_out_the_scale_of_logits() -> None:
    similarity = torch.tensor([[0.3, 0.1], [0.2, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(known_score(similarity * 100, 100.0), similarity.softmax(-1).amax(-1))
    torch.testing.assert_close(known_score(similarity, None), similarity.softmax(-1).amax(-1))


def test_unknown_images_are_told_from_known_ones_by_their_scores() -> None:
    known, unknown = torch.linspace(0.4, 1.0, 101), torch.linspace(0.0, 0.5, 51)
    found = separation(known, unknown)
    higher = (known[:, None] > unknown).double() + 0.5 * (known[:, None] == unknown).double()
    assert found["auroc"] == pytest.approx(higher.mean().item(), abs=1e-4)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    assert (known >= found["threshold"]).double().mean() >= 0.95
    assert found["fpr95"] == pytest.approx((unknown >= found["threshold"]).double().mean().item())
    assert separation(known, known)["auroc"] == pytest.approx(0.5, abs=1e-6)
