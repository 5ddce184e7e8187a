"""A run directory: what was asked for, what was measured, and the states to go on from and to use."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from vpt.errors import VptError
from vpt.model import Prompted
from vpt.report.tables import comma_separated
from vpt.saving import versions

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"


class RunDir:
    """The files of one run below `path`.

    config.yaml, environment.json; metrics.jsonl, metrics.csv and tensorboard/, a row for each epoch; last/
    and best/, as `save_pretrained` writes them; last/training.pt, to resume from; result.json at the end.

    Nothing is written before `begin`, and where several processes train together only the main one writes.

    Args:
        path: made if need be.
        resume: go on with the run that lies there; without one, begin.
        overwrite: delete the run that lies there.

    Raises:
        VptError: something lies there, and neither was asked for, or it is no run.
    """

    def __init__(self, path: str | Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.resume = resume
        self.overwrite = overwrite
        # As Accelerator makes it; made without the flag first, it would know of one process alone on CPUs.
        self.processes = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        if self.path.exists() and not self.path.is_dir():
            raise VptError(f"{self.path} is a file, and a run needs a folder: name another one.")
        # A run that ended before its first epoch did leaves nothing to lose.
        there = self.path.is_dir() and {entry.name for entry in self.path.iterdir()} - {CONFIG, ENVIRONMENT}
        if there and not (resume or overwrite):
            raise VptError(f"{self.path} holds something already: name another folder, or say resume or overwrite.")
        if there and not (self.path / ENVIRONMENT).is_file():
            raise VptError(f"{self.path} is no run directory, and is left alone: name another folder.")

    def begin(self, config: Mapping[str, Any] | None = None) -> RunDir:
        """Make the folder, empty if it is to be overwritten, and keep the environment and the resolved config."""
        # Every process has looked at what lies there before the main one changes it.
        self.processes.wait_for_everyone()
        if self.processes.is_main_process:
            if self.overwrite and self.path.is_dir():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            _write_json(self.path / ENVIRONMENT, environment())
            if config is not None:
                text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
                _replace(self.path / CONFIG, text.encode())
        self.processes.wait_for_everyone()
        return self

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Keep what the run came to as result.json."""
        if self.processes.is_main_process:
            _write_json(self.path / "result.json", result)

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows of all epochs so far, and add the last one to the TensorBoard log."""
        if not self.processes.is_main_process:
            return
        lines = "".join(json.dumps(row) + "\n" for row in history)
        _replace(self.path / "metrics.jsonl", lines.encode())
        columns = dict.fromkeys(key for row in history for key in row)
        _replace(
            self.path / "metrics.csv", comma_separated([{**dict.fromkeys(columns), **r} for r in history]).encode()
        )
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.path / "tensorboard"), purge_step=history[-1]["epoch"]) as writer:
            for key, value in history[-1].items():
                writer.add_scalar(key, value, history[-1]["epoch"])

    def save_best(self, model: Prompted, metrics: Mapping[str, Any]) -> None:
        """Keep the model as best/."""
        if self.processes.is_main_process:
            model.save_pretrained(self.path / "best", metrics=metrics, overwrite=True)
        self.processes.wait_for_everyone()

    def save_last(self, model: Prompted, metrics: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Keep the model as last/, and in it what is needed to go on."""
        if not self.processes.is_main_process:
            return
        model.save_pretrained(self.path / "last", metrics=metrics, overwrite=True)
        target = self.path / "last" / "training.pt"
        torch.save(dict(training), target.with_suffix(".tmp"))
        os.replace(target.with_suffix(".tmp"), target)

    def training_state(self) -> dict[str, Any] | None:
        """What `save_last` kept, if the run is to be resumed and has come to its first save.

        Raises:
            VptError: the file is damaged.
        """
        path = self.path / "last" / "training.pt"
        if not self.resume or not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise VptError(f"{path} is damaged, and the run cannot be resumed from it: begin again.") from error
        return state


def environment() -> dict[str, Any]:
    """What a result may depend on, besides its config."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    _replace(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or as it was before."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
