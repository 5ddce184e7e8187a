"""What the benchmark of a GPU counts, and what it can be narrowed to."""

import pytest

from benchmarks.gpu import MODES, Row, busy_share, jobs, judged


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


def test_it_is_narrowed_to_methods_and_sizes() -> None:
    assert [job.what for job in jobs(["coop"], [], [], compiled=True)] == ["coop, 100 classes", "coop, 1000 classes"]
    assert [job.what for job in jobs([], [10], [1000], compiled=True)] == ["coop, 1000 classes", "vpt-deep 10"]
    assert all(MODES[2] not in job.fast for job in jobs([], [], [], compiled=False))


def test_each_captured_way_of_running_is_held_to_the_share_that_is_aimed_at() -> None:
    def row(mode: str, busy: float) -> Row:
        return Row("coop, 100 classes", "fast", mode, 1.0, busy, 300, 1.0, 32.0)

    found = judged([row(MODES[0], 0.1), row(MODES[1], 0.8), row(MODES[2], 0.95)])
    assert [line for line in found if "busy" in line] == [
        "| coop, 100 classes: GPU busy, captured | 0.80 | ≥ 0.9 | no |",
        "| coop, 100 classes: GPU busy, compiled, captured | 0.95 | ≥ 0.9 | yes |",
    ]
