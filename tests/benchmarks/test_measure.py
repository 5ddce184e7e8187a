"""What is counted and how repeats become figures, on functions whose costs are known."""

import gc
import weakref
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure import Case, Ratio, Run, Setting, flops, interleave, measure, repeated, saved_bytes


def test_saved_bytes_are_those_of_the_storages_that_the_backward_pass_needs() -> None:
    x = torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 6, dtype=torch.float64)

    def forward() -> Tensor:
        # Sigmoid keeps what it gives (10 × 6), the product only the weight, since nothing else has a gradient.
        return (x @ weight).sigmoid().sum()

    assert saved_bytes(forward, [x, weight]) == 10 * 6 * 8
    assert saved_bytes(forward) == 10 * 6 * 8 + 8 * 6 * 8


def test_a_storage_is_counted_once_and_whole() -> None:
    x = torch.randn(3, 20, requires_grad=True)

    def forward() -> Tensor:
        y = x * 1.0
        # Both views of y are kept, the one of a single row as well.
        return y.square().sum() + y[:1].exp().mul(y[:1]).sum()

    assert saved_bytes(forward, [x]) == (3 * 20 + 20) * 4


def test_nothing_is_left_behind_by_counting() -> None:
    x = torch.randn(5, requires_grad=True)
    outputs: list[weakref.ref[Tensor]] = []

    def forward() -> Tensor:
        y = x.exp()
        outputs.append(weakref.ref(y))
        return y.sum()

    saved_bytes(forward)
    gc.collect()
    assert outputs[0]() is None


def test_nothing_is_saved_without_gradients() -> None:
    x = torch.randn(5)
    assert saved_bytes(lambda: x.exp().sum()) == 0


def test_operations_of_attention_are_those_of_its_products() -> None:
    q = torch.randn(2, 3, 10, 8, requires_grad=True)
    one_product = 2 * 2 * 3 * 10 * 10 * 8
    forward = lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q).sum()  # noqa: E731
    assert flops(forward) == 2 * one_product
    assert flops(lambda: forward().backward()) == 6 * one_product


def test_operations_of_torchs_module_of_attention_are_seen_with_and_without_gradients() -> None:
    module, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8)
    forward = lambda: module(x, x, x, need_weights=False)[0]  # noqa: E731
    four_projections, two_products = 4 * 2 * 3 * 5 * 8 * 8, 2 * 2 * 3 * 5 * 5 * 8
    assert flops(forward) == four_projections + two_products
    assert flops(torch.no_grad()(forward)) == flops(forward)
    assert torch.backends.mha.get_fastpath_enabled()


def test_runs_take_turns_and_each_begins_once() -> None:
    called: list[str] = []
    timers = {name: lambda name=name: called.append(name) or float(len(called)) for name in "abc"}
    times = interleave(timers, repeats=3)
    assert "".join(called) == "abc" + "bca" + "cab"
    assert times == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}


def test_after_the_second_no_repeat_is_begun_that_the_budget_has_no_time_for() -> None:
    timers = {"slow": lambda: 2.0, "fast": lambda: 1.0}
    assert interleave(timers, repeats=5, budget=7.0)["slow"] == [2.0] * 3
    assert interleave(timers, repeats=5, budget=1.0)["fast"] == [1.0] * 2
    assert interleave(timers, repeats=1, budget=1.0)["fast"] == [1.0]


def test_a_long_call_is_called_once_to_be_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock = count(), {"now": 0.0}

    def call() -> None:
        next(calls)
        clock["now"] += 2.0

    monkeypatch.setattr(Setting, "now", lambda self: clock["now"])
    timer = repeated(call, Setting(), least=0.1)
    assert next(calls) == 1
    assert timer() == pytest.approx(2.0)
    assert next(calls) == 3


def test_a_short_call_is_repeated_until_it_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, clock = count(), {"now": 0.0}

    def call() -> None:
        next(calls)
        clock["now"] += 0.01

    monkeypatch.setattr(Setting, "now", lambda self: clock["now"])
    timer = repeated(call, Setting(), least=0.1)
    before = next(calls)
    assert timer() == pytest.approx(0.01)
    assert next(calls) - before - 1 == 10


def test_what_was_there_before_is_not_gone_through_while_something_is_timed() -> None:
    def frozen() -> float:
        return float(gc.get_freeze_count() > 0)

    found = measure(Case(facts={}, runs={"run": Run(frozen, own_clock=True)}, ratios=[], items=1), Setting(repeats=3))
    assert found["seconds"]["run"]["low"] == 1.0
    assert not gc.get_freeze_count()


def test_times_of_a_gpu_lie_between_events_around_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("record")

        def synchronize(self) -> None:
            done.append("wait")

        def elapsed_time(self, last: "Event") -> float:
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert Setting(device="cuda").seconds(lambda: done.append("call")) == 1.5
    assert done == ["record", "call", "record", "wait"]


def test_a_ratio_is_taken_within_each_repeat_and_held_against_its_target() -> None:
    fast, slow = iter([1.0, 2.0, 1.0]), iter([4.0, 6.0, 5.0])
    x = torch.ones(4, 4, requires_grad=True)
    case = Case(
        facts={"model": "none"},
        runs={
            "fast": Run(lambda: next(fast), eager=lambda: x @ x, forward=lambda: x.exp().sum(), own_clock=True),
            "slow": Run(lambda: next(slow), eager=lambda: x @ x @ x, own_clock=True),
        },
        ratios=[
            Ratio("slow / 2 fast", "slow", "fast", times=2, at_most=2.0),
            Ratio("slow / fast", "slow", "fast", at_least=4.5),
            Ratio("FLOPs", "slow", "fast", of="flops"),
        ],
        items=8,
    )
    row = measure(case, Setting(repeats=3))
    assert row["ratios"]["slow / 2 fast"] == {"median": 2.0, "low": 1.5, "high": 2.5, "target": "≤ 2.0", "met": True}
    assert row["ratios"]["slow / fast"] == {"median": 4.0, "low": 3.0, "high": 5.0, "target": "≥ 4.5", "met": False}
    assert row["ratios"]["FLOPs"]["median"] == 2.0
    assert row["seconds"]["fast"] == {"median": 1.0, "low": 1.0, "high": 2.0}
    assert row["items_per_second"] == {"fast": 8.0, "slow": 1.6}
    assert row["saved_bytes"] == {"fast": 64}
