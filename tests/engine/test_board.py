"""TensorBoard reads the log of a run, also of one that was gone on with."""

import threading
from pathlib import Path

from vpt.engine.board import log_epoch


def test_the_last_row_of_an_epoch_counts_and_no_thread_is_left(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = threading.active_count()
    for epoch, loss in ((1, 4.0), (2, 3.0), (3, 9.0), (2, 2.0)):
        log_epoch(tmp_path / "board", {"epoch": epoch, "train/loss": loss})
    log = EventAccumulator(str(tmp_path / "board"))
    log.Reload()
    first = [(event.step, event.value) for event in log.Scalars("train/loss")]
    assert set(first) >= {(1, 4.0), (2, 2.0)}
    assert threading.active_count() == before
