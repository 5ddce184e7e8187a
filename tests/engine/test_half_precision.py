"""fp16 and its scaler: the loop on a CPU, where Accelerate refuses fp16 and is given what it has on a GPU."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

import vpt
from tests.engine.test_fit import QUIET, model, pairs
from vpt.engine.rundir import RunDir

SCALE = 2.0**10


@pytest.fixture
def accelerators(monkeypatch: pytest.MonkeyPatch) -> list[Accelerator]:
    """Every accelerator that `fit` makes, with fp16 and a scaler that grows every 3 steps."""
    import vpt.engine.prepare as loop

    made: list[Accelerator] = []
    make = loop.make_accelerator

    def with_fp16(precision: str, accumulate: int = 1) -> Accelerator:
        accelerator = make("fp32", accumulate)
        accelerator.state._mixed_precision = precision
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=3)
        made.append(accelerator)
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", with_fp16)
    return made


FP16 = {**QUIET, "precision": "fp16", "batch_size": 6}


def test_the_loss_is_scaled_and_the_step_is_not(accelerators: list[Accelerator]) -> None:
    half, full = model(), model()
    vpt.fit(half, pairs(), epochs=2, **FP16)
    assert accelerators[0].scaler.get_scale() == 2 * SCALE
    vpt.fit(full, pairs(), epochs=2, **{**FP16, "precision": "no"})
    before = model().tuned_state()
    for name, tensor in full.tuned_state().items():
        assert half.tuned_state()[name].dtype == torch.float32
        moved = (tensor - before[name]).norm()
        assert (half.tuned_state()[name] - tensor).norm() < 0.02 * moved
        assert not torch.equal(half.tuned_state()[name], tensor)


def test_gradients_are_clipped_at_their_own_size(accelerators: list[Accelerator]) -> None:
    prompted, settings = model("linear"), {**FP16, "momentum": 0.0, "lr": 1.0, "batch_size": 12}
    before = prompted.head.weight.detach().clone()
    vpt.fit(prompted, pairs(), epochs=1, clip_norm=1e-2, **settings)
    rate = 0.5
    moved = torch.cat([(prompted.head.weight - before).flatten(), prompted.head.bias]).norm()
    assert moved.item() == pytest.approx(1e-2 * rate, rel=1e-3)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_step_that_overflows_is_left_out_and_the_schedule_goes_on(
    clip_norm: float | None, accelerators: list[Accelerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SCALE", 2.0**100)
    prompted = model()
    before = {name: tensor.clone() for name, tensor in prompted.tuned_state().items()}
    result = vpt.fit(prompted, pairs(), epochs=3, clip_norm=clip_norm, **FP16)
    assert accelerators[0].scaler.get_scale() == 2.0 ** (100 - 6)
    for name, tensor in prompted.tuned_state().items():
        assert torch.equal(tensor, before[name])
    expected = vpt.fit(model(), pairs(), epochs=3, **{**FP16, "precision": "no"})
    rates = [row["lr/prompts"] for row in result.history]
    assert rates == [row["lr/prompts"] for row in expected.history]
    assert [row["step"] for row in result.history] == [2, 4, 6]


def test_a_resumed_run_has_the_scale_that_it_was_left_with(
    accelerators: list[Accelerator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model()
    vpt.fit(whole, pairs(), epochs=4, run_dir=tmp_path / "whole", **FP16)
    assert accelerators[0].scaler.get_scale() == 4 * SCALE
    saved = RunDir.save_last

    def interrupted(self: RunDir, prompted: vpt.Prompted, metrics: dict[str, int], training: dict[str, object]) -> None:
        saved(self, prompted, metrics, training)
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "save_last", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vpt.fit(model(), pairs(), epochs=4, run_dir=tmp_path / "cut", **FP16)
    monkeypatch.setattr(RunDir, "save_last", saved)
    resumed = model(seed=7)
    vpt.fit(resumed, pairs(), epochs=4, run_dir=tmp_path / "cut", resume=True, **FP16)
    assert accelerators[2].scaler.state_dict() == accelerators[0].scaler.state_dict()
    for name, tensor in whole.tuned_state().items():
        assert torch.equal(resumed.tuned_state()[name], tensor)
