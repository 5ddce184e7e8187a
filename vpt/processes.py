"""The processes that train together."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from vpt.errors import VptError

# Seconds that a process waits at its end for the others to come to theirs.
PATIENCE = 5


def processes() -> PartialState:
    """Those that `torchrun` or `accelerate launch` started, or this one alone.

    Raises:
        VptError: they cannot work together.
    """
    launched, here = (int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if launched > 1 and not torch.accelerator.is_available():
        # Without it Accelerate takes each process on a machine without a GPU for one that runs alone.
        os.environ["ACCELERATE_USE_CPU"] = "1"
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if here > torch.cuda.device_count() > 0 and not on_cpu:
        raise VptError(f"{here} processes were started for {torch.cuda.device_count()} GPU: start one for each GPU.")
    state = PartialState(cpu=on_cpu)
    if launched > state.num_processes:
        raise VptError(
            f"{launched} processes were started, and each believes to be alone: make no PartialState or Accelerator "
            "before vpt does, or set ACCELERATE_USE_CPU=1."
        )
    if state.num_processes > 1:
        # Once, and before what was registered by then.
        atexit.unregister(_leave)
        atexit.register(_leave)
    return state


def _leave() -> None:
    """Part with the others: a process that ends while another is still sending may be ended as a failure."""
    if not torch.distributed.is_initialized():
        return
    failed = hasattr(sys, "last_value")
    if torch.distributed.get_backend() == "gloo" and not failed:
        # Who was ended already is not waited for any longer.
        with suppress(RuntimeError):
            torch.distributed.monitored_barrier(timeout=timedelta(seconds=PATIENCE))
    torch.distributed.destroy_process_group()


def on_main(action: Callable[[], Any]) -> None:
    """Run `action` in the main process alone, while the others wait; a VptError of it is raised in all."""
    state = processes()
    found: list[VptError | None] = [None]
    if state.is_main_process:
        try:
            action()
        except VptError as error:
            if state.num_processes == 1:
                raise
            found = [error]
    if state.num_processes > 1:
        broadcast_object_list(found)
    if found[0] is not None:
        raise found[0]
