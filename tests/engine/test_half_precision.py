"""fp16 autocast, whose gradients are scaled: on a CPU, with the scaler that Accelerate takes on a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import vpt
from tests.engine.test_fit import QUIET, pairs
from tests.zoo import vit
from vpt.engine.evaluate import make_accelerator

RUN: dict[str, Any] = {**QUIET, "epochs": 3, "batch_size": 5, "lr": 0.02}


@pytest.fixture
def scalers(monkeypatch: pytest.MonkeyPatch) -> list[torch.amp.GradScaler]:
    """The scalers of the runs so far, which step up after every second step."""
    made: list[torch.amp.GradScaler] = []

    def accelerator(precision: str, accumulate: int = 1) -> Accelerator:
        if precision != "fp16":
            return make_accelerator(precision, accumulate)
        AcceleratorState._reset_state()
        one = Accelerator(gradient_accumulation_steps=accumulate)
        one.state._mixed_precision = "fp16"
        one.native_amp = True
        one.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        made.append(one.scaler)
        return one

    monkeypatch.setattr("vpt.engine.fit.make_accelerator", accelerator)
    return made


def model() -> vpt.Prompted:
    torch.manual_seed(0)
    return vpt.attach(vit(), num_tokens=3, num_classes=3)


def test_a_run_is_that_of_single_precision_to_half_s_rounding(scalers: list[torch.amp.GradScaler]) -> None:
    half, single = model(), model()
    seen: list[torch.dtype] = []
    half.tower.block(0).mlp.fc1.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    found = vpt.fit(half, pairs(), clip_norm=1.0, precision="fp16", **RUN)
    assert set(seen) == {torch.float16}
    assert scalers[0].get_scale() > 1024
    expected = vpt.fit(single, pairs(), clip_norm=1.0, **RUN)
    for row, of_single in zip(found.history, expected.history, strict=True):
        assert row["train/loss"] == pytest.approx(of_single["train/loss"], rel=0.02)


def test_a_resumed_run_goes_on_with_its_scale(scalers: list[torch.amp.GradScaler], tmp_path: Path) -> None:
    whole, first, second = model(), model(), model()
    vpt.fit(whole, pairs(), precision="fp16", **RUN)
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as stopping:
        stopping.setattr("vpt.engine.rundir.RunDir.write_metrics", _stop)
        with pytest.raises(KeyboardInterrupt):
            vpt.fit(first, pairs(), precision="fp16", run_dir=folder, **RUN)
    vpt.fit(second, pairs(), precision="fp16", run_dir=folder, resume=True, **RUN)
    assert scalers[2].get_scale() == scalers[0].get_scale()
    for name, tensor in whole.tuned_state().items():
        assert torch.equal(second.tuned_state()[name], tensor)


def _stop(*args: object) -> None:
    raise KeyboardInterrupt
