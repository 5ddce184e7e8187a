"""A run directory: what was asked for, what was measured, and the states to go on from and to use."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import yaml

from vpt.engine import folder
from vpt.engine.folder import CONFIG, ENVIRONMENT, RESULT, STATE
from vpt.engine.outputs import write_predictions
from vpt.engine.results import FORMAT, read_result
from vpt.engine.state import State, read_state, write_state
from vpt.errors import VptError
from vpt.files import check_place, make_folder, write
from vpt.model import Prompted
from vpt.processes import on_main, processes
from vpt.report.about import about_run
from vpt.report.notes import first_of
from vpt.report.progress import in_notebook
from vpt.report.tables import comma_separated
from vpt.saving import versions


class RunDir:
    """The files of one run below `path`.

    last/training.pt is the truth of how far the run is: it is written first, and all else that an epoch leaves follows
    from it: last/ and best/, as `save_pretrained` writes them, metrics.jsonl and metrics.csv, a row for each epoch.
    Beside them lie config.yaml and environment.json, result.json when the run is finished, and what TensorBoard reads
    (`vpt.engine.trackers`).

    Nothing is written before `begin`, and where several processes train together only the main one writes. From then
    on the folder is this run's alone, until the run directory is left (`with`) or `close` is called.

    Args:
        path: made if need be.
        resume: go on with the run that lies there; without one, begin.
        overwrite: begin anew; the run that lies there goes when this one has come to its first save, and comes back
            if it does not.
        config: of the run, resolved.

    Attributes:
        facts: further files that `begin` writes, by name: what JSON can hold, such as which images the run is of.
        fingerprint: of the backbone's frozen weights, once it is known.

    Raises:
        VptError: something lies there, and neither was asked for; or it is no run, or is being written to; or the
            place cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.resume = resume
        self.overwrite = overwrite
        self.config = config
        self.facts: dict[str, Any] = {}
        self.fingerprint: str | None = None
        self.begun = False
        self.made = False
        self.lock = folder.Lock(self.path)
        self.processes = processes()
        on_main(self._look)

    def _look(self) -> None:
        check_place(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise VptError(f"{self.path} is a file, and a run needs a folder: name another one.")
        if folder.holds_nothing(self.path):
            return
        if not folder.is_run(self.path):
            there = first_of(sorted(entry.name for entry in self.path.iterdir()))
            raise VptError(
                f"{self.path} is no run directory, and is left alone (there is {there}): name another folder, such as "
                f"out={self.path / 'run'}."
            )
        if not (self.resume or self.overwrite):
            raise VptError(f"{self.path} holds something already: name another folder, or say resume or overwrite.")
        self.lock.acquire()
        try:
            folder.settle(self.path)
        finally:
            self.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(failed=error is not None)

    def begin(self) -> RunDir:
        """Make the folder and take it; keep the environment and the config; have a former run leave it.

        Raises:
            VptError: another process has it, or it cannot be written.
        """
        if not self.begun:
            on_main(self._begin)
            self.begun = True
        return self

    def _begin(self) -> None:
        self.made = not self.path.is_dir()
        make_folder(self.path)
        self.lock.acquire()
        try:
            if not (self.resume or self.overwrite or folder.holds_nothing(self.path)):
                raise VptError(f"{self.path} holds something by now: name another folder, or say resume or overwrite.")
            if self.overwrite:
                folder.set_aside(self.path)
            _write_json(self.path / ENVIRONMENT, environment())
            if self.config is not None:
                write(self.path / CONFIG, yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True))
            for name, values in self.facts.items():
                _write_json(self.path / name, values)
        except BaseException:
            self._leave(failed=True)
            raise

    def close(self, *, failed: bool = False) -> None:
        """Leave the folder to others; one that failed before its first save leaves it as it was."""
        if self.begun and self.processes.is_main_process:
            self._leave(failed=failed)
        self.begun = False

    def _leave(self, *, failed: bool) -> None:
        try:
            if failed and not folder.has_saved(self.path):
                folder.bring_back(self.path)
                if self.made:
                    folder.clear(self.path)
        finally:
            self.lock.release()
        if failed and self.made:
            # It stays where there is something in it.
            with suppress(OSError):
                self.path.rmdir()

    def result(self) -> dict[str, Any] | None:
        """What a finished run that is to be gone on with came to.

        Raises:
            VptError: the file is damaged.
        """
        path = self.path / RESULT
        return read_result(path) if self.resume and path.is_file() else None

    def write_result(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what the run came to as result.json, and return it as it stands there."""
        whole = {"format": FORMAT, **result}
        on_main(lambda: _write_json(self.path / RESULT, whole))
        return whole

    def write_predictions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was said of each image as predictions.csv."""
        on_main(lambda: write_predictions(self.path, rows))

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows of all epochs so far."""
        on_main(lambda: self._write_metrics(history))

    def _write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        write(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
        columns = dict.fromkeys(key for row in history for key in row)
        write(self.path / "metrics.csv", comma_separated([{**dict.fromkeys(columns), **row} for row in history]))

    def save_best(self, model: Prompted, metrics: Mapping[str, Any]) -> None:
        """Keep the model as best/."""
        on_main(lambda: self._save(model, "best", metrics))

    def save_last(self, model: Prompted, metrics: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Keep what is needed to go on, and then the model as last/.

        Args:
            model: as it is after the epoch.
            metrics: the epoch's row.
            training: the fields of a `State`, but for its format.
        """
        on_main(lambda: write_state(self.path / STATE, training))
        self.save_last_model(model, metrics)

    def save_last_model(self, model: Prompted, metrics: Mapping[str, Any]) -> None:
        """Keep the model as last/."""
        on_main(lambda: self._save(model, "last", metrics))

    def _save(self, model: Prompted, name: str, metrics: Mapping[str, Any]) -> None:
        model.save_pretrained(
            self.path / name,
            metrics=metrics,
            overwrite=True,
            about=about_run(self.config),
            fingerprint=self.fingerprint,
        )
        folder.forget(self.path)

    def training_state(self) -> State | None:
        """What `save_last` kept, if the run is to be resumed and has come to its first save.

        Raises:
            VptError: the file is damaged.
        """
        path = self.path / STATE
        return read_state(path) if self.resume and path.is_file() else None

    def check_room(self, needed: int) -> None:
        """Nothing, if the disk has room for what the run writes.

        Args:
            needed: bytes.

        Raises:
            VptError: it does not.
        """
        free = shutil.disk_usage(next(place for place in (self.path, *self.path.parents) if place.exists())).free
        if free < needed:
            raise VptError(
                f"{self.path} needs {needed / 1e6:.1f} MB, and the disk has {free / 1e6:.1f} MB left: make room, or "
                "name another folder."
            )


def room_needed(model: Prompted) -> int:
    """Bytes that a run of a model writes at most: what is learned, in best/, in last/, and six times in the state.

    These are the parameters now and at their best, their average, up to two numbers for each in an optimizer; and while
    a file is replaced there are two of it.
    """
    return 16 * sum(tensor.numel() * tensor.element_size() for tensor in model.tuned_state().values())


def environment() -> dict[str, Any]:
    """What a result may depend on, besides its config."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        # That of a notebook's kernel says nothing but where it lies.
        "command": "a notebook" if in_notebook() else " ".join(sys.argv),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
