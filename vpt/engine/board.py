"""The log that TensorBoard reads."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpt.files import make_folder, told


def log_epoch(folder: Path, row: Mapping[str, Any]) -> None:
    """Add an epoch's row to the log in `folder`, as a file of its own; what was logged of it and later ones goes.

    torch's writer has a thread of its own, whose errors nobody catches.

    Raises:
        VptError: it cannot be written.
    """
    # These take a second to import.
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import scalar

    step, now = row["epoch"], time.time()
    start = SessionLog(status=SessionLog.START)
    events = [Event(wall_time=now, file_version="brain.Event:2"), Event(wall_time=now, step=step, session_log=start)]
    events += [Event(wall_time=now, step=step, summary=scalar(key, value)) for key, value in row.items()]
    content = io.BytesIO()
    records = RecordWriter(content)
    for event in events:
        records.write(event.SerializeToString())
    make_folder(folder)
    # TensorBoard reads files in the order of their names.
    name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{step:06d}"
    with told(folder):
        (folder / name).write_bytes(content.getvalue())
