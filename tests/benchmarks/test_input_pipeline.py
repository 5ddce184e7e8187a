"""What is around the model: the sources hold the same images, an epoch's clock runs from the end of the one before."""

from pathlib import Path

import pytest
import torch

import vpt
from benchmarks.input_pipeline import Clock, epoch_case, features_case, sources
from benchmarks.measure import Setting, measure
from tests.zoo import vit
from vpt.data.cache import Cached


def test_each_source_gives_the_images_that_the_model_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    model = vpt.attach(vit(), num_classes=10)
    for kind, source in sources(4, model.preprocessing.size, tmp_path).items():
        facts = {"model": "tiny", "images": kind, "batch": 2, "count": 4}
        row = measure(epoch_case(model, source, 2, Setting(repeats=1), facts), Setting(repeats=1))
        assert row["items"] == 4
        assert row["seconds"].keys() == {"input", "steps", "epoch"}
        assert row["ratios"]["epoch / steps"]["median"] > 0
        if isinstance(source, Cached):
            linear = vpt.attach(vit(), "linear", num_classes=10)
            row = measure(features_case(linear, source, 2, Setting(repeats=1), facts), Setting(repeats=1))
            assert row["seconds"].keys() == {"steps", "epoch"}


def test_the_clock_of_an_epoch_starts_when_the_one_before_it_is_over() -> None:
    ticks = iter(range(1, 1000))
    passed: list[int] = []

    class Steps(vpt.Callback):
        def on_step(self, training: vpt.Training) -> None:
            passed.append(next(ticks))

    clock = Clock(lambda: next(ticks))
    images = [(torch.randn(3, 32, 32), label) for label in (0, 1, 2, 3)]
    model = vpt.attach(vit(), num_classes=4)
    vpt.fit(model, images, epochs=2, batch_size=2, callbacks=[Steps(), clock], progress=False)
    assert (passed, clock.started) == ([1, 2, 4, 5], 3)
