"""Where the figures of a run are shown beside its own files: TensorBoard, W&B, MLflow and others, all by Accelerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, TensorBoardTracker, get_available_trackers

from vpt.engine.folder import BOARD
from vpt.errors import VptError, did_you_mean
from vpt.files import told

# A name, a name with options of the tracker, or a tracker of one's own.
TrackerChoice = Union[str, Mapping[str, Any], GeneralTracker]  # noqa: UP007  (mypy takes it for a variable)

PROJECT = "vpt"


class Trackers:
    """The trackers of a run. The main process alone tells them of its epochs.

    Args:
        asked: as `fit` takes them; None for TensorBoard where there is a folder.
        folder: of the run, in which TensorBoard's log lies; None for a run without one.

    Raises:
        VptError: a tracker that there is not, that is not installed, or that needs a folder.
    """

    def __init__(self, asked: Sequence[TrackerChoice] | None, folder: Path | None) -> None:
        given = ([BOARD] if folder else []) if asked is None else asked
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
            raise VptError(f"trackers={given!r} is no list: say trackers=[{given!r}].")
        self.folder = folder
        self.project = PROJECT
        self.options: dict[str, dict[str, Any]] = {}
        self.chosen = [self._chosen(choice) for choice in given]
        self.accelerator: Accelerator | None = None

    def _chosen(self, choice: TrackerChoice) -> str | GeneralTracker:
        if isinstance(choice, GeneralTracker):
            return choice
        named = {"name": choice} if isinstance(choice, str) else choice
        options = dict(named) if isinstance(named, Mapping) else {}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise VptError(f"trackers has {choice!r}, which needs a name, as {{name: wandb, project: birds}}.")
        known = {str(kind): tracker for kind, tracker in LOGGER_TYPE_TO_CLASS.items()}
        if name not in known:
            raise VptError(f"trackers: {name!r} is none that Accelerate has: {did_you_mean(name, known)}")
        own = {str(kind) for kind in get_available_trackers()}
        builtin = known[name].__module__ == TensorBoardTracker.__module__
        if builtin and name not in own:
            raise VptError(f"trackers: {name} is not installed: pip install {name.replace('_', '-')}, or leave it out.")
        if name == BOARD:
            if self.folder is None:
                raise VptError("trackers: tensorboard writes into the folder of a run: give run_dir, or leave it out.")
            return TensorBoardTracker(BOARD, self.folder, **options)
        self.project = str(options.pop("project", self.project))
        self.options[name] = options
        return name

    def begin(self, accelerator: Accelerator, config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Open them, and tell them what the run is, and of all its epochs so far.

        A session of a resumed run tells everything anew: what TensorBoard was told before is put aside, and a tracker
        that makes a new run of it has all of it.
        """
        if not self.chosen:
            return
        self.accelerator = accelerator
        accelerator.log_with, accelerator.trackers = self.chosen, []
        for tracker in self.chosen:
            if isinstance(tracker, TensorBoardTracker):
                tracker.init_kwargs.setdefault("purge_step", 1)
        if self.folder is not None and accelerator.is_main_process:
            # Otherwise a library may write where the run is not to be yet.
            assert self.folder.is_dir()
        with told(self.folder or Path()):
            accelerator.init_trackers(self.project, init_kwargs=self.options)
            for tracker in accelerator.trackers:
                # The log of TensorBoard lies beside config.yaml, and would show the config as a run of its own.
                if not isinstance(tracker, TensorBoardTracker):
                    tracker.store_init_configuration(_flat(config))
        for row in history:
            self.log(row)

    def log(self, row: Mapping[str, Any]) -> None:
        """Tell them an epoch's row.

        Raises:
            VptError: TensorBoard's log cannot be written.
        """
        if self.accelerator is not None:
            with told(self.folder or Path()):
                self.accelerator.log(dict(row), step=row["epoch"])

    def end(self) -> None:
        """Close them."""
        if self.accelerator is None:
            return
        opened, self.accelerator.trackers = self.accelerator.trackers, []
        self.accelerator = None
        for tracker in opened:
            # Accelerate's own `end_training` would end the processes too.
            tracker.finish()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested values by dotted key, as numbers, truths and texts."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + str(key)] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
