"""Learning rates and their schedule, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

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
