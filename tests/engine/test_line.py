"""Accuracy along the line from the frozen model to the tuned one."""

import pytest
import torch
from PIL import Image

import vpt
from tests.text_models import CLASSES, image_text_model
from tests.zoo import vit
from vpt.data.base import Arrays
from vpt.data.shifts import SHIFTS, Shifted
from vpt.engine.line import kind_of, line

POINTS = (0.0, 0.5, 1.0)


def samples(size: int) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, size, size, 3), generator=generator, dtype=torch.uint8).numpy()
    return Arrays(images, [index % 3 for index in range(24)], "noise")


def away(model: vpt.Prompted) -> vpt.Prompted:
    torch.manual_seed(1)
    with torch.no_grad():
        for group in model.parameter_groups().values():
            for parameter in group:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def by_names(method: str) -> vpt.Prompted:
    return vpt.attach(image_text_model(), method, classes=CLASSES, head="text")


@pytest.mark.parametrize(("method", "kind"), [("coop", "logits"), ("vpt-deep", "logits"), ("bias", "weights")])
def test_the_line_begins_at_the_frozen_model_and_ends_at_the_tuned_one(method: str, kind: str) -> None:
    model, base, data = away(by_names(method)), by_names(method), samples(16)
    assert kind_of(model) == kind
    rows = line(model, base, data, points=POINTS, progress=False)
    assert [row["share"] for row in rows] == list(POINTS)
    assert rows[0]["top1"] == pytest.approx(vpt.evaluate(by_names("zero-shot"), data, progress=False)["top1"])
    assert rows[-1]["top1"] == pytest.approx(vpt.evaluate(model, data, progress=False)["top1"])
    assert all(row["low"] <= row["top1"] <= row["high"] for row in rows)


def test_features_are_mixed_under_a_linear_head() -> None:
    model, base = (vpt.attach(vit(), "vpt-deep", num_classes=3) for _ in range(2))
    model, data = away(model), samples(32)
    assert kind_of(model) == "features"
    rows = line(model, base, data, points=POINTS, progress=False)
    head = vpt.attach(vit(), "linear", num_classes=3)
    head.head.load_state_dict(model.head.state_dict())
    assert rows[0]["top1"] == pytest.approx(vpt.evaluate(head, data, progress=False)["top1"])
    assert rows[-1]["top1"] == pytest.approx(vpt.evaluate(model, data, progress=False)["top1"])


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_an_image_and_always_in_the_same_way(name: str) -> None:
    first, second = (Shifted(samples(40), name).image(3) for _ in range(2))
    assert first.mode == "RGB"
    assert first.size == (40, 40)
    assert list(first.tobytes()) == list(second.tobytes()) != list(samples(40).image(3).tobytes())


def test_an_unknown_shift_is_answered_with_the_near_one() -> None:
    with pytest.raises(vpt.VptError, match="noise"):
        Shifted(samples(16), "nois")
    assert isinstance(Shifted(samples(16), "noise")[0][0], Image.Image)
