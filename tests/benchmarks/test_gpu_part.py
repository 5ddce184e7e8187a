"""What the benchmark of a GPU counts, and what it can be narrowed to."""

import pytest
import torch

import vpt
from benchmarks.gpu import busy_share, busy_time, jobs
from benchmarks.gpu_clock import Clocks, read
from benchmarks.gpu_fit import milliseconds
from benchmarks.gpu_table import FIT, MODES, Row, judged, table
from tests.text_models import CLASSES, image_text_model


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([], 0.0),
        ([(0, 4)], 1.0),
        ([(0, 1), (3, 4)], 0.5),
        ([(0, 4), (1, 2), (3, 6), (9, 10)], 0.7),
    ],
    ids=["nothing", "one", "with a gap", "some at the same time"],
)
def test_what_runs_at_the_same_time_is_busy_once(spans: list[tuple[float, float]], share: float) -> None:
    assert busy_share(spans) == pytest.approx(share)
    assert busy_time(spans) == pytest.approx(share * max((stop for _, stop in spans), default=0))


def test_clocks_are_read_from_the_first_program_that_begins_to_the_last_that_ends() -> None:
    first, second = [[1000, 3000], [2000, 6000]], [[9000, 9500], [8000, 10000]]
    assert read(torch.tensor([first, second])) == Clocks(kernel=(5 + 2) / 2, between=2.0)


def test_the_share_is_without_what_the_profiler_adds_and_its_own_stands_beside_it() -> None:
    """Of 2 ms under the profiler the GPU waits for 0.4, a quarter of which is the profiler's own."""
    row = Row("coop, 100 classes", "fast", MODES[1], 1.9, 0.8, 200, 1.0, 32.0, at_work=1.6, added=0.5)
    assert row.busy == pytest.approx(1.6 / 1.9)
    assert "| 1.90 |  | 84.2% | 80.0% | 200 | 1.00 |" in table([row])[2]
    assert Row("coop, 100 classes", "fast", FIT, 1.9, None, None, 1.0, 32.0).busy is None


def test_it_is_narrowed_to_methods_and_sizes() -> None:
    assert [job.what for job in jobs(["coop"], [], [], compiled=True)] == ["coop, 100 classes", "coop, 1000 classes"]
    assert [job.what for job in jobs([], [10], [1000], compiled=True)] == ["coop, 1000 classes", "vpt-deep 10"]
    assert all(MODES[2] not in job.fast for job in jobs([], [], [], compiled=False))


def test_each_captured_way_of_running_is_held_to_the_share_that_is_aimed_at() -> None:
    def row(mode: str, busy: float) -> Row:
        return Row("coop, 100 classes", "fast", mode, 1.0, busy, 300, 1.0, 32.0, at_work=busy)

    found = judged([row(MODES[0], 0.1), row(MODES[1], 0.8), row(MODES[2], 0.95)])
    assert [line for line in found if "busy" in line] == [
        "| coop, 100 classes: GPU busy, captured | 0.80 | ≥ 0.9 | no |",
        "| coop, 100 classes: GPU busy, compiled, captured | 0.95 | ≥ 0.9 | yes |",
    ]


def test_a_step_of_a_run_is_timed_with_what_stands_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = vpt.attach(image_text_model(), "coop", classes=CLASSES)
    before, steps = {name: tensor.clone() for name, tensor in model.tuned_state().items()}, []
    monkeypatch.setattr(vpt.Callback, "on_step", lambda self, training: steps.append(training.step))
    found = milliseconds(model, 4, 3, epochs=4)
    assert steps == list(range(1, 13))
    assert any((model.tuned_state()[name] != tensor).any() for name, tensor in before.items())
    assert found > 0
    row = Row("coop, 100 classes", "fast", FIT, found, None, None, 1.0, 4 / found * 1000)
    assert table([row])[2].startswith(f"| coop, 100 classes | fast | in vpt.fit | {found:.2f} |  |  |  |  | 1.00 |")
    assert len(judged([row])) == 2
