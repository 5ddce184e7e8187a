"""Several processes that train together on one machine, each with a GPU or a part of the CPU."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vpt.errors import VptError
from vpt.report.notes import tell
from vpt.report.ranks import STARTED_BY_VPT

FAILED = 1


def launched() -> int:
    """How many processes a launcher started that this is one of; 0 where none did."""
    return int(os.environ.get("WORLD_SIZE") or 0)


def handed_on(sentence: str) -> bool:
    """Whether the process that started this one and its like is to say what ended it; then it is told."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if STARTED_BY_VPT not in os.environ or not file:
        return False
    # As torch's launcher reads it.
    Path(file).write_text(json.dumps({"message": sentence, "timestamp": int(time.time())}), encoding="utf-8")
    return True


def launch(arguments: Sequence[str], processes: int) -> int:
    """Have `vpt` run in several processes with these arguments; returns the exit code of the one that failed, or 0.

    torch's own launcher does the work. Of an error one sentence is said, in the place of its report of some 40 lines.

    Args:
        arguments: of the command line.
        processes: how many.

    Raises:
        VptError: a launcher started this one already.
        KeyboardInterrupt: the user ended it; so are the processes.
    """
    if launched():
        raise VptError("--processes starts processes, and a launcher has started this one: leave one of the two out.")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ[STARTED_BY_VPT] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=str(os.getpid()),
        max_restarts=0,
    )
    try:
        # -P: what lies in the folder that one works in is not imported, unless vpt itself does.
        safe = [] if Path(__file__).parents[1] == Path.cwd() else ["-P"]
        elastic_launch(config, sys.executable)(*safe, "-m", "vpt", *arguments)
    except ChildFailedError as error:
        return _failed(error.failures, processes)
    except SignalException as error:
        raise KeyboardInterrupt from error
    return 0


def _failed(failures: Mapping[int, Any], processes: int) -> int:
    """Tell what ended the first process that failed; returns its exit code."""
    rank, failure = min(failures.items(), key=lambda each: (_later(each[1].exitcode), each[1].timestamp, each[0]))
    code: int = failure.exitcode
    if code < 0:
        name = signal.Signals(-code).name
        tell(
            f"process {rank + 1} of {processes} was ended by {name}; what was saved before stays: go on with --resume."
        )
        return FAILED
    if failure.error_file_data.get("message") == failure.message:
        tell(failure.message)
    return code


def _later(code: int) -> int:
    """Failures in their order: what the system ended, what failed by itself or missed it, what torch ended."""
    return 1 if code > 0 else 2 if code == -signal.SIGTERM else 0
