"""Learning rates and their schedule, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vpt import VptError
from vpt.engine.optim import learning_rates, make_optimizer, make_schedule


def parameters() -> dict[str, list[nn.Parameter]]:
    return {"prompts": [nn.Parameter(torch.ones(2))], "head": [nn.Parameter(torch.ones(3))]}


def test_a_base_rate_is_for_256_images() -> None:
    rates = learning_rates(lr=None, base_lr=5.0, head_lr=1.0, batch=64, optimizer="sgd")
    assert rates == (1.25, 0.25)


def test_a_plain_rate_is_taken_as_it_is() -> None:
    assert learning_rates(lr=0.1, base_lr=None, head_lr=None, batch=64, optimizer="sgd") == (0.1, 0.1)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.5), ("adamw", 1e-3)])
def test_rates_that_are_not_given(optimizer: str, rate: float) -> None:
    assert learning_rates(lr=None, base_lr=None, head_lr=None, batch=128, optimizer=optimizer) == (rate, rate)


@given(st.integers(1, 40), st.integers(0, 60), st.floats(0, 0.01))
def test_the_schedule_is_its_closed_form_and_never_zero(warmup: int, rest: int, min_lr: float) -> None:
    steps = warmup + rest
    optimizer = make_optimizer(parameters(), name="sgd", lr=2.0, head_lr=0.5, momentum=0.9, weight_decay=0.0)
    schedule = make_schedule(optimizer, steps=steps, warmup_steps=warmup, min_lr=min_lr)
    for k in range(steps):
        schedule.step_update(k + 1)
        for group, lr in zip(optimizer.param_groups, (2.0, 0.5), strict=True):
            done = (k + 1 - warmup) / (steps + 1 - warmup)
            expected = min_lr + (lr - min_lr) / 2 * (1 + math.cos(math.pi * done))
            if k + 1 < warmup:
                expected = lr * (k + 1) / warmup
            assert group["lr"] == pytest.approx(expected)
            assert group["lr"] > 0


def test_sgd_is_without_nesterov() -> None:
    optimizer = make_optimizer(parameters(), name="sgd", lr=1.0, head_lr=1.0, momentum=0.8, weight_decay=0.1)
    assert type(optimizer) is torch.optim.SGD
    assert [(g["nesterov"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (False, 0.8, 0.1)
    ] * 2


def test_adamw_uses_the_weight_decay_that_is_asked_for() -> None:
    optimizer = make_optimizer(parameters(), name="adamw", lr=1.0, head_lr=1.0, momentum=0.9, weight_decay=0.3)
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3]


def schedule(kind: str, steps: int, **options: object) -> list[float]:
    """The rates of prompts at each step, from a rate of 2; the head's are a quarter of them."""
    optimizer = make_optimizer(parameters(), name="sgd", lr=2.0, head_lr=0.5, momentum=0.9, weight_decay=0.0)
    made = make_schedule(optimizer, kind=kind, steps=steps, **{"warmup_steps": 0, "min_lr": 0.0, **options})
    rates = []
    for step in range(steps):
        made.step_update(step + 1)
        prompts, head = (group["lr"] for group in optimizer.param_groups)
        assert head == pytest.approx(prompts / 4) or prompts == head == 1e-5 or options.get("min_lr")
        rates.append(prompts)
    return rates


def test_annealing_is_torchs_own() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 11, eta_min=0.1)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert schedule("annealing", 11, min_lr=0.1) == pytest.approx(rates, rel=1e-9)


def test_coops_rates_change_by_epochs_after_a_constant_first() -> None:
    rates = schedule("coop", 8, steps_per_epoch=2)
    half = math.sqrt(0.5)
    assert rates == pytest.approx([1e-5] * 2 + [2.0] * 2 + [1 + half] * 2 + [1.0] * 2)


def test_vpts_rates_change_by_epochs_and_begin_with_an_epoch_of_nothing() -> None:
    rates = schedule("vpt", 12, steps_per_epoch=2, warmup_steps=4)
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.0] * 2 + [1.0] * 2 + [2.0] * 2 + [1 + half] * 2 + [1.0] * 2 + [1 - half] * 2)


def test_the_last_epoch_may_be_cut_short() -> None:
    assert schedule("coop", 5, steps_per_epoch=2) == pytest.approx([1e-5] * 2 + [2.0] * 2 + [1.5])


def test_eps_is_the_optimizers_where_it_has_one() -> None:
    settings = {"lr": 1.0, "head_lr": 1.0, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-4}
    optimizer = make_optimizer(parameters(), name="adamw", **settings)
    assert [group["eps"] for group in optimizer.param_groups] == [1e-4, 1e-4]
    with pytest.raises(VptError, match=r"train\.eps=0\.0001 is no option of the optimizer 'sgd'"):
        make_optimizer(parameters(), name="sgd", **settings)


def test_what_is_spared_has_no_decay_and_the_rate_of_its_group() -> None:
    groups = {"prompts": [nn.Parameter(torch.ones(2))], "head": [nn.Parameter(torch.ones(2)) for _ in range(2)]}
    given = {"name": "sgd", "lr": 1.0, "head_lr": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = make_optimizer(groups, spared=groups["head"][1:], **given)
    found = [(group["params"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    (weight, bias), prompts = groups["head"], groups["prompts"]
    assert found == [(prompts, 1.0, 0.1), ([weight], 0.5, 0.1), ([bias], 0.5, 0.0)]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_gpu_takes_the_step_in_one_kernel_and_a_cpu_as_ever(name: str) -> None:
    options = {"name": name, "lr": 1.0, "head_lr": 1.0, "momentum": 0.9, "weight_decay": 0.0}
    assert not any(group["fused"] for group in make_optimizer(parameters(), **options).param_groups)
    with FakeTensorMode():
        on_gpu = {"prompts": [nn.Parameter(torch.empty(2, device="cuda"))]}
        assert all(group["fused"] for group in make_optimizer(on_gpu, **options).param_groups)


@pytest.mark.parametrize("kind", ["cosine", "annealing"])
def test_what_is_trained_in_stages_has_a_schedule_for_each(kind: str) -> None:
    def rates(steps: int, windows: list[tuple[int, int]] | None) -> list[list[float]]:
        groups = {"backbone": [nn.Parameter(torch.ones(2))], "prompts": [nn.Parameter(torch.ones(2))]}
        optimizer = make_optimizer(groups, name="sgd", lr=0.5, head_lr=0.5, momentum=0.9, weight_decay=0.0)
        warmup = steps // 10 if kind == "cosine" else 0
        schedule = make_schedule(optimizer, steps=steps, warmup_steps=warmup, min_lr=0.01, kind=kind, windows=windows)
        found = []
        for step in range(steps):
            schedule.step_update(step + 1)
            found.append([group["lr"] for group in optimizer.param_groups])
        return found

    first, second = zip(*rates(50, [(0, 30), (30, 50)]), strict=True)
    assert list(first) == pytest.approx([one for one, _ in rates(30, None)] + [0.0] * 20)
    assert list(second) == pytest.approx([0.0] * 30 + [one for one, _ in rates(20, None)])
