"""What is around the model: the sources hold the same images, an epoch's clock runs from its first image."""

from pathlib import Path

import pytest
import torch

import vpt
from benchmarks.input_pipeline import FirstRead, epoch_case, sources
from benchmarks.measure import Setting, measure
from tests.zoo import vit


def test_each_source_gives_the_images_that_the_model_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    model = vpt.attach(vit(), num_classes=10)
    for kind, source in sources(4, model.preprocessing.size, tmp_path).items():
        facts = {"model": "tiny", "images": kind, "batch": 2, "count": 4}
        row = measure(epoch_case(model, source, 2, Setting(repeats=1), facts), Setting(repeats=1))
        assert row["items"] == 4
        assert row["seconds"].keys() == {"input", "steps", "epoch"}
        assert row["ratios"]["epoch / steps"]["median"] > 0


def test_the_clock_of_an_epoch_starts_at_its_first_image() -> None:
    times = iter([1.0, 2.0, 3.0])
    data = FirstRead([(torch.zeros(1), i) for i in range(3)], lambda: next(times))
    starts = []
    for _ in range(2):
        for index in (2, 0, 1):
            assert data[index][1] == index
            starts.append(data.started)
    assert starts == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
