"""The training loop: what a step does, which epoch is kept, how a run goes on."""

import json
import math
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import vpt
from tests.zoo import vit
from vpt import VptError
from vpt.engine.average import Average
from vpt.engine.rundir import RunDir

Pairs = list[tuple[Tensor, int]]


def pairs(count: int = 12, seed: int = 0) -> Pairs:
    """Noise with the class in the mean of a colour: learnable in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 32, 32, generator=generator)
    for i in range(count):
        images[i, i % 3] += 1.0
    return [(images[i], i % 3) for i in range(count)]


def model(method: str = "vpt-deep", seed: int = 0, **options: object) -> vpt.Prompted:
    torch.manual_seed(seed)
    return vpt.attach(vit(), method, num_classes=3, **options)


QUIET = {"progress": False, "warmup_epochs": 0, "lr": 0.05, "weight_decay": 0.0}


def test_training_learns_and_leaves_the_model_in_evaluation_mode() -> None:
    prompted = model()
    result = vpt.fit(prompted, pairs(), epochs=12, batch_size=6, **QUIET)
    assert not prompted.training
    assert result.history[-1]["train/loss"] < 0.5 * result.history[0]["train/loss"]
    assert vpt.evaluate(prompted, pairs(), progress=False)["top1"] > 0.9


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    once, twice = model().double(), model().double()
    data = [(image.double(), label) for image, label in pairs()]
    vpt.fit(once, data, epochs=2, batch_size=12, **QUIET)
    vpt.fit(twice, data, epochs=2, batch_size=6, accumulate=2, **QUIET)
    for name, tensor in once.tuned_state().items():
        torch.testing.assert_close(twice.tuned_state()[name], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("no_decay", [None, "biases"])
def test_a_step_is_sgd_with_momentum_and_decay_on_every_trained_parameter_but_those_spared(no_decay: str) -> None:
    data, lr = [(image.double(), label) for image, label in pairs()], 0.05
    prompted = model(head_init="vpt").double()
    values = {name: tensor.clone() for name, tensor in prompted.tuned_state().items()}
    velocity: dict[str, Tensor] = {}
    reference = model().double()
    images, labels = torch.stack([i for i, _ in data]), torch.tensor([y for _, y in data])
    for step in range(3):
        reference.load_tuned_state(values)
        loss = torch.nn.functional.cross_entropy(reference(images), labels, label_smoothing=0.1)
        parameters = {n: p for n, p in reference.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        rate = lr / 2 * (1 + math.cos(math.pi * (step + 1) / 4))
        for name, gradient in zip(parameters, gradients, strict=True):
            decayed = gradient + (0.0 if name == "head.bias" and no_decay else 0.01) * values[name]
            velocity[name] = 0.9 * velocity.get(name, 0) + decayed
            values[name] = values[name] - rate * velocity[name]
    settings = {**QUIET, "weight_decay": 0.01, "no_decay": no_decay, "label_smoothing": 0.1}
    result = vpt.fit(prompted, data, epochs=3, batch_size=12, **settings)
    assert {key for key in result.history[0] if key.startswith("lr/")} == {"lr/prompts", "lr/head"}
    for name, tensor in prompted.tuned_state().items():
        torch.testing.assert_close(tensor, values[name], rtol=1e-6, atol=1e-9)


def test_gradients_are_clipped_together() -> None:
    prompted, free = model("linear"), model("linear")
    before = prompted.head.weight.detach().clone()
    settings = {**QUIET, "momentum": 0.0, "lr": 1.0}
    vpt.fit(prompted, pairs(), epochs=1, batch_size=12, clip_norm=1e-3, **settings)
    vpt.fit(free, pairs(), epochs=1, batch_size=12, **settings)
    moved = torch.cat([(prompted.head.weight - before).flatten(), prompted.head.bias]).norm()
    assert moved <= 1e-3
    assert (free.head.weight - before).norm() > 1e-2


def test_a_head_rate_of_zero_keeps_the_head() -> None:
    prompted = model()
    head, prompts = prompted.head.weight.detach().clone(), prompted.method.prompts.values.detach().clone()
    vpt.fit(prompted, pairs(), epochs=2, batch_size=12, head_lr=0.0, **QUIET)
    assert torch.equal(prompted.head.weight, head)
    assert not torch.equal(prompted.method.prompts.values, prompts)


def test_the_average_of_steps_is_what_is_evaluated_and_kept() -> None:
    decay, settings = 0.5, {**QUIET, "momentum": 0.0}
    data = [(image.double(), label) for image, label in pairs()]
    first = model("linear").double()
    start = {name: tensor.clone() for name, tensor in first.tuned_state().items()}
    images, labels = torch.stack([i for i, _ in data]), torch.tensor([y for _, y in data])
    current, average = dict(start), dict(start)
    for step in range(2):
        first.load_tuned_state(current)
        loss = torch.nn.functional.cross_entropy(first(images), labels)
        gradients = torch.autograd.grad(loss, [first.head.weight, first.head.bias])
        rate = settings["lr"] / 2 * (1 + math.cos(math.pi * (step + 1) / 3))
        for name, gradient in zip(("head.weight", "head.bias"), gradients, strict=True):
            current[name] = current[name] - rate * gradient
            average[name] = decay * average[name] + (1 - decay) * current[name]
    averaged = model("linear").double()
    vpt.fit(averaged, data, epochs=2, batch_size=12, ema=decay, **settings)
    for name, tensor in averaged.tuned_state().items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-6, atol=1e-9)


def test_the_parameters_come_back_when_an_evaluation_of_the_average_breaks_off() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = Average([parameter], 0.5)
    parameter.data.fill_(4.0)
    average.update()
    seen = []

    def evaluation() -> None:
        with average.applied():
            seen.extend(parameter.tolist())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation()
    assert seen == [2.0, 2.0]
    assert parameter.tolist() == [4.0, 4.0]


def test_a_run_that_broke_off_leaves_no_trace_in_the_next_one() -> None:
    settings = {**QUIET, "epochs": 2, "batch_size": 4, "accumulate": 2}
    expected, again = model(), model()
    vpt.fit(expected, pairs(), **settings)
    broken = pairs()
    broken[0] = (torch.zeros(3, 5, 5), 0)
    with pytest.raises(VptError, match="images of one batch have the shapes"):
        vpt.fit(model(), broken, **settings)
    vpt.fit(again, pairs(), **settings)
    for name, tensor in expected.tuned_state().items():
        assert torch.equal(again.tuned_state()[name], tensor)


def test_the_best_epoch_is_chosen_on_validation_and_the_first_of_equals_wins() -> None:
    prompted = model()
    result = vpt.fit(prompted, pairs(), pairs(9, seed=1), epochs=6, batch_size=6, **QUIET)
    tops = [row["val/top1"] for row in result.history]
    assert result.best_epoch == tops.index(max(tops)) + 1
    assert vpt.evaluate(prompted, pairs(9, seed=1), progress=False)["top1"] == pytest.approx(max(tops))


def test_without_validation_the_last_epoch_counts() -> None:
    assert vpt.fit(model(), pairs(), epochs=3, batch_size=6, **QUIET).best_epoch == 3


def test_patience_ends_a_run_that_does_not_get_better() -> None:
    result = vpt.fit(model(), pairs(), pairs(), epochs=50, batch_size=6, patience=2, **{**QUIET, "lr": 0.0})
    assert len(result.history) == 3
    assert result.stopped_early


def test_steps_stand_in_the_place_of_epochs_and_the_last_one_ends_early() -> None:
    prompted, epochs = model(), model()
    result = vpt.fit(prompted, pairs(), pairs(9, seed=1), steps=5, batch_size=6, keep="last", **QUIET)
    assert [row["step"] for row in result.history] == [2, 4, 5]
    assert result.best_epoch == 3
    assert result.metrics["val/top1"] == vpt.evaluate(prompted, pairs(9, seed=1), progress=False)["top1"]
    whole = vpt.fit(epochs, pairs(), epochs=2, batch_size=6, schedule="annealing", **{**QUIET, "warmup_epochs": None})
    again = vpt.fit(model(), pairs(), steps=4, batch_size=6, schedule="annealing", **{**QUIET, "warmup_epochs": None})
    assert [row["train/loss"] for row in again.history] == [row["train/loss"] for row in whole.history]


def test_steps_that_are_accumulated_are_counted_as_one() -> None:
    result = vpt.fit(model(), pairs(), steps=3, batch_size=3, accumulate=2, **QUIET)
    assert [row["step"] for row in result.history] == [2, 3]


@pytest.mark.parametrize(("schedule", "rates"), [("coop", [1e-5, 0.05, 0.0375]), ("vpt", [0.0, 0.05, 0.025])])
def test_rates_that_change_by_epochs(schedule: str, rates: list[float]) -> None:
    settings = {**QUIET, "warmup_epochs": 1 if schedule == "vpt" else None}
    result = vpt.fit(model(), pairs(), epochs=3, batch_size=4, schedule=schedule, **settings)
    assert [row["lr/prompts"] for row in result.history] == pytest.approx(rates)


@pytest.mark.parametrize(("batch", "steps"), [(5, 2), (12, 1), (20, 1)])
def test_a_smaller_last_batch_can_be_left_out_unless_it_is_the_only_one(batch: int, steps: int) -> None:
    result = vpt.fit(model(), pairs(), epochs=1, batch_size=batch, drop_last=True, **QUIET)
    assert result.history[0]["step"] == steps


def test_evaluation_every_few_epochs_includes_the_last() -> None:
    result = vpt.fit(model(), pairs(), pairs(), epochs=5, batch_size=6, eval_every=3, **QUIET)
    assert [row["epoch"] for row in result.history if "val/top1" in row] == [3, 5]


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"optimizer": "adamw", "lr": 0.01}], ids=str)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**QUIET, "epochs": 5, "batch_size": 5, **options}
    whole = model(dropout=0.3)
    expected = vpt.fit(whole, pairs(), pairs(seed=1), run_dir=tmp_path / "whole", **settings)

    saved = RunDir.save_last

    def interrupted(
        self: RunDir, prompted: vpt.Prompted, metrics: dict[str, object], training: dict[str, object]
    ) -> None:
        saved(self, prompted, metrics, training)
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "save_last", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vpt.fit(model(dropout=0.3), pairs(), pairs(seed=1), run_dir=tmp_path / "cut", **settings)
    monkeypatch.setattr(RunDir, "save_last", saved)
    resumed = model(dropout=0.3, seed=7)
    result = vpt.fit(resumed, pairs(), pairs(seed=1), run_dir=tmp_path / "cut", resume=True, **settings)
    assert result.best_epoch == expected.best_epoch
    timing = {"seconds", "images_per_second", "data_wait"}
    for got, want in zip(result.history, expected.history, strict=True):
        assert {k: v for k, v in got.items() if k not in timing} == {k: v for k, v in want.items() if k not in timing}
    for name, tensor in whole.tuned_state().items():
        assert torch.equal(resumed.tuned_state()[name], tensor)


def test_prompts_that_start_from_images_are_set_before_the_first_step() -> None:
    prompted = model(num_tokens=3, init="patches")
    before = prompted.method.prompts.values.detach().clone()
    vpt.fit(prompted, pairs(), epochs=1, batch_size=6, **{**QUIET, "lr": 0.0})
    assert not torch.equal(prompted.method.prompts.values, before)


def test_a_loss_that_is_not_finite_stops_the_run_and_what_was_saved_stays(tmp_path: Path) -> None:
    broken = model()
    broken.head.weight.data[0] = torch.nan
    with pytest.raises(VptError, match=r"the loss is nan in epoch 1, step \d, at learning rate 0\.\d+: give a smaller"):
        vpt.fit(broken, pairs(), epochs=2, batch_size=6, run_dir=tmp_path / "run", **QUIET)


def test_two_precisions_in_one_process() -> None:
    for precision in ("fp32", "bf16", "fp32"):
        prompted = model()
        vpt.fit(prompted, pairs(), epochs=1, batch_size=6, precision=precision, **QUIET)
        assert {tensor.dtype for tensor in prompted.tuned_state().values()} == {torch.float32}


def test_gradients_of_before_are_none_of_a_run() -> None:
    expected, looked_at = model(), model()
    vpt.fit(expected, pairs(), epochs=1, batch_size=6, **QUIET)
    looked_at.train()
    (100 * looked_at(torch.randn(2, 3, 32, 32)).square().sum()).backward()
    vpt.fit(looked_at, pairs(), epochs=1, batch_size=6, **QUIET)
    for name, tensor in expected.tuned_state().items():
        assert torch.equal(looked_at.tuned_state()[name], tensor)


@pytest.mark.parametrize("breaks", [False, True])
def test_a_run_leaves_the_random_numbers_of_its_caller_as_they_were(breaks: bool) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    class Breaks(vpt.Callback):
        def on_epoch(self, training: vpt.Training) -> None:
            if breaks:
                raise LookupError

    expected: list[tuple[float, float, float]] = []
    for fits in (False, True):
        prompted = model("vpt-deep", dropout=0.3)
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        if fits:
            with pytest.raises(LookupError) if breaks else nullcontext():
                vpt.fit(prompted, pairs(), epochs=1, batch_size=6, callbacks=[Breaks()], **QUIET)
        expected.append(drawn())
    assert expected[0] == expected[1]


def test_fitting_leaves_nothing_behind_on_the_model() -> None:
    prompted = model()
    before = set(vars(prompted))
    vpt.fit(prompted, pairs(), epochs=1, batch_size=6, precision="bf16", **QUIET)
    assert set(vars(prompted)) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs=0: give 1 or more"),
        ({"epochs": 2, "warmup_epochs": 3}, "warmup_epochs=3 does not fit into epochs=2"),
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"patience": 0}, "patience=0: give 1 or more"),
        ({"workers": -1}, "workers=-1: give 0 or more"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: give 0 or more"),
        ({"no_decay": "bias"}, "no_decay='bias' will not do"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0: give 0 or more"),
        ({"label_smoothing": 2.0}, "label_smoothing=2.0: give 0 to 1"),
        ({"ema": math.nan}, "ema=nan: give 0 to 1"),
        ({"lr": 1.0, "base_lr": 1.0}, "give lr or base_lr, not both"),
        ({"lr": -1.0}, "lr=-1.0 is below 0"),
        ({"lr": 0.5, "weight_decay": 2.0}, "weight_decay=2.0 leaves nothing of a parameter in one step at"),
        ({"optimizer": "sdg", "lr": 1.0}, "timm has no optimizer 'sdg'"),
        ({"precision": "fp16"}, "precision='fp16' needs a GPU"),
        ({"precision": "fp8"}, "precision='fp8' is not one of fp32, bf16, fp16"),
        ({"steps": 0}, "steps=0: give 1 or more"),
        ({"steps": 2, "warmup_epochs": 3}, "warmup_epochs=3 does not fit into epochs=2"),
        ({"schedule": "coop", "warmup_epochs": 1}, "schedule='coop' has no warmup_epochs: leave it out"),
        ({"schedule": "annealing", "warmup_epochs": 1}, "schedule='annealing' has no warmup_epochs: leave it out"),
        ({"schedule": "vpt", "min_lr": 0.1}, "schedule='vpt' has no min_lr: leave it out"),
        ({"eps": 0.1}, "train.eps=0.1 is no option of the optimizer 'sgd'"),
        ({"recompute": "all"}, "recompute='all' is not one of none, mlp, block"),
        ({"augment": "crpo"}, "there is no augmentation 'crpo': did you mean 'crop'"),
    ],
)
def test_what_will_not_do_is_told_before_training(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.fit(model(), pairs(), progress=False, **options)
    assert sentence in str(error.value)


def test_there_must_be_images() -> None:
    with pytest.raises(VptError, match="train has no images"):
        vpt.fit(model(), [], progress=False)
    with pytest.raises(VptError, match="train is a loader that has no batches: give it images, or drop_last=False"):
        vpt.fit(model(), DataLoader(pairs(5), batch_size=8, drop_last=True), progress=False)


def test_a_run_directory_tells_the_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    result = vpt.fit(model(), pairs(), pairs(), epochs=2, batch_size=6, run_dir=path, **QUIET)
    names = {entry.name for entry in path.iterdir()}
    assert names == {"environment.json", "metrics.jsonl", "metrics.csv", "tensorboard", "last", "best"}
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    assert (path / "metrics.csv").read_text().splitlines()[0].startswith("epoch,step,lr/prompts,lr/head,train/loss")
    assert json.loads((path / "environment.json").read_text())["versions"]["torch"] in torch.__version__
    assert vpt.load(path / "best", backbone=vit()).classes == ("0", "1", "2")


def test_a_run_is_neither_overwritten_nor_mixed_with_other_files(tmp_path: Path) -> None:
    path, settings = tmp_path / "run", {"epochs": 1, "batch_size": 6, **QUIET}
    vpt.fit(model(), pairs(), run_dir=path, **settings)
    with pytest.raises(VptError, match="holds something already: name another folder, or say resume or overwrite"):
        vpt.fit(model(), pairs(), run_dir=path, **settings)
    vpt.fit(model(), pairs(), run_dir=path, overwrite=True, **settings)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "wedding.jpg").write_bytes(b"x")
    with pytest.raises(VptError, match="is no run directory, and is left alone"):
        vpt.fit(model(), pairs(), run_dir=tmp_path / "photos", overwrite=True, **settings)
    assert (tmp_path / "photos" / "wedding.jpg").exists()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path, settings = tmp_path / "run", {"epochs": 1, "batch_size": 6, **QUIET}
    vpt.fit(model(), pairs(), run_dir=path, **settings)
    (path / "last" / "training.pt").write_bytes(b"nonsense")
    with pytest.raises(VptError, match=r"training.pt is damaged"):
        vpt.fit(model(), pairs(), run_dir=path, resume=True, **settings)


def test_a_log_file_gets_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    vpt.fit(model(), pairs(), pairs(), epochs=2, batch_size=6, **{**QUIET, "progress": True})
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert not any("\r" in line for line in lines)
    assert all("images/s" in line and "% waiting for data" in line and "val loss" in line for line in lines)
    assert lines[0].endswith("left")
    assert lines[1].endswith("done")
