"""A search for options by Optuna: all of a grid, or freely with pruning, by any number of processes and machines."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

import yaml

from vpt import config as configs
from vpt import experiment, files
from vpt.config import Config
from vpt.engine.callbacks import Callback, Training
from vpt.engine.folder import RESULT, Lock, lives, this_process
from vpt.engine.results import read_result
from vpt.errors import VptError, did_you_mean
from vpt.extras import needed
from vpt.processes import processes
from vpt.report.notes import tell
from vpt.report.tables import comma_separated, markdown
from vpt.space import Choices, Range, Space, check_space, space_of
from vpt.sweep import Row, make_row, order

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY = "vpt"
TRIALS, KEPT, BEST, JOURNAL = "trials", "sweep.json", "best.yaml", "study.journal"
# In which a run's figures on validation images have what it is chosen by: of classes, and of images with captions.
FIGURES = ("top1", "rsum")
DEFAULT_TRIALS = 50
Pruning = Literal["median", "hyperband", "none"]


def search(
    config: Config,
    *,
    row: str | None = None,
    trials: int | None = None,
    storage: str | None = None,
    prune: Pruning = "median",
    progress: bool = True,
) -> dict[str, Any]:
    """Train with one choice of options after another, and keep what came of it; the test split is left alone.

    With `config.search` options are drawn by Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011),
    and a trial that is worse than others were after as many epochs is ended. With `config.select` alone each
    combination is run once, to its end. The same call goes on where a former one was interrupted, also in the midst of
    a trial, and any number of processes may make it at the same time.

    Args:
        config: the experiment, with `search` or `select`; each choice is run with `select_seeds`, or `seed`.
        row: of `config.compare`, whose changes hold; where there is but one, it need not be named.
        trials: how many, of all processes together; 50 by default, and all of a grid.
        storage: where Optuna keeps what all of them have to know: a URL such as "sqlite:///study.db" or
            "postgresql://…", or a file, which several machines may share; study.journal in the folder by default.
        prune: which trials are ended early, of a free search.
        progress: show it.

    Returns:
        What sweep.json holds: "chosen" (the best options), "value" (their mean on validation images), "trials". Beside
        it best.yaml is a config of the best options, and table.md and table.csv have a row for each trial.

    Raises:
        VptError: nothing to choose among, a choice that will not do, a search that was begun otherwise, or no trial
            came to its end.
    """
    optuna = needed("optuna", extra="sweep", what="vpt sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if processes().num_processes > 1:
        raise VptError("vpt sweep trains in one process: start it once for each GPU, and they share the trials.")
    out = config.out or Path("runs/sweep")
    chosen = make_row(config, _row(config, row), TRIALS, out)
    select = {key: list(dict.fromkeys(point[key] for point in chosen.grid)) for key in chosen.grid[0]}
    space = space_of(select, config.search)
    check_space(space, lambda point: chosen.config(point, chosen.select_seeds[0], out))
    files.make_folder(out)
    free = bool(config.search)
    study = optuna.create_study(
        study_name=STUDY,
        storage=_storage(storage, out),
        sampler=optuna.samplers.TPESampler(constant_liar=True, multivariate=len(space) > 1) if free else None,
        pruner=_pruner(prune if free else "none"),
        direction="maximize",
        load_if_exists=True,
    )
    with Lock(out, patience=60.0):
        _check_same(study, chosen, space)
        _revive(study, space)
        if not free:
            for point in chosen.grid:
                study.enqueue_trial(point, skip_if_exists=True)
    objective = _Objective(chosen, space, prunes=free and prune != "none", progress=progress)
    most = trials or (DEFAULT_TRIALS if free else None)
    while _more(study, most, free=free):
        study.optimize(objective, n_trials=1, catch=(Exception,))
        _tell(study, progress)
    return _kept(study, chosen, config)


def _row(config: Config, label: str | None) -> str:
    if label is None and len(config.compare) > 1:
        raise VptError(f"the config has several rows ({', '.join(config.compare)}): name one of them with --row.")
    if label is not None and label not in config.compare:
        raise VptError(f"there is no row {label!r} in compare: {did_you_mean(label, config.compare)}")
    return label or next(iter(config.compare), STUDY)


class _Objective:
    """A trial: the mean over seeds of what its runs come to on validation images."""

    def __init__(self, row: Row, space: Space, *, prunes: bool, progress: bool) -> None:
        self.row = row
        self.space = space
        self.prunes = prunes
        self.progress = progress

    def __call__(self, trial: Trial) -> float:
        trial.set_user_attr("process", this_process())
        folder = trial.user_attrs.get("folder", f"{trial.number:05d}")
        trial.set_user_attr("folder", folder)
        try:
            point = {key: _drawn(trial, key, choices) for key, choices in self.space.items()}
            found: list[float] = []
            for seed in self.row.select_seeds:
                run = self.row.config(point, seed, self.row.out / TRIALS / folder / f"seed-{seed}")
                # One seed is enough to see that a choice is none of the best.
                found.append(self._run(run, [_Prunes(trial)] if self.prunes and not found else []))
            trial.set_user_attr("values", found)
            return mean(found)
        except Exception as error:
            if type(error).__name__ != "TrialPruned":
                trial.set_user_attr("error", str(error) or type(error).__name__)
            raise

    def _run(self, run: Config, callbacks: Sequence[Callback]) -> float:
        assert run.out is not None
        if (run.out / RESULT).is_file():
            result = read_result(run.out / RESULT)
        else:
            _, result = experiment.train(
                run, resume=True, test=False, progress=self.progress, callbacks=list(callbacks)
            )
        value = next((result["val"][name] for name in FIGURES if name in result["val"]), None)
        if value is None:
            raise VptError(f"{run.data['name']} has no val split to choose by: give it data.val_fraction.")
        return float(value)


class _Prunes(Callback):
    """Tells Optuna the figure of each epoch, and ends the trial where it says so."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_epoch(self, training: Training) -> None:
        """Where it was evaluated."""
        from optuna import TrialPruned

        value = next((training.row[f"val/{name}"] for name in FIGURES if f"val/{name}" in training.row), None)
        if value is None:
            return
        self.trial.report(value, training.epoch)
        if training.epoch < training.epochs and self.trial.should_prune():
            raise TrialPruned(f"after epoch {training.epoch}")


def _drawn(trial: Trial, key: str, choices: Choices) -> Any:
    if isinstance(choices, list):
        return trial.suggest_categorical(key, choices)
    if choices.whole:
        low, high, step = int(choices.low), int(choices.high), int(choices.step or 1)
        return trial.suggest_int(key, low, high, step=step, log=choices.log)
    return trial.suggest_float(key, choices.low, choices.high, step=choices.step, log=choices.log)


def _storage(storage: str | None, out: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if storage is not None and "://" in storage:
        return storage
    path = Path(storage) if storage else out / JOURNAL
    files.make_folder(path.parent)
    # Windows gives ordinary users no symbolic links, which Optuna's other lock is made of.
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def _pruner(name: Pruning) -> Any:
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return pruners.HyperbandPruner() if name == "hyperband" else pruners.NopPruner()


def _check_same(study: Study, row: Row, space: Space) -> None:
    """Nothing, if the study is new, or was begun with the same config and choices."""
    first = row.config({}, row.select_seeds[0], row.out)
    named = {key: each.model_dump() if isinstance(each, Range) else each for key, each in space.items()}
    asked = {"config": configs.plain(first), "space": named, "seeds": row.select_seeds}
    asked = json.loads(json.dumps(asked))
    known = study.user_attrs.get("asked")
    if known is None:
        study.set_user_attr("asked", asked)
        return
    changes = configs.differences(known["config"], asked["config"])
    changes += [f"{key} was {known[key]} and is {asked[key]}" for key in ("space", "seeds") if known[key] != asked[key]]
    if changes:
        raise VptError(
            f"{row.out} holds a search that was begun otherwise ({', '.join(changes)}): go on with it as it was begun, "
            "or set another out=…."
        )


def _revive(study: Study, space: Space) -> None:
    """Have trials of processes of this machine that have died begun again, where they are."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("process")
        if owner is None or owner["host"] != socket.gethostname():
            tell(f"trial {trial.number} is said to run elsewhere ({owner['host'] if owner else 'not known where'}).")
        elif not lives(owner["pid"], owner["began"]):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            whole = trial.params.keys() == space.keys()
            # What was not drawn yet is drawn anew, and belongs to another folder.
            study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]} if whole else None)
            tell(f"trial {trial.number} was interrupted, and is gone on with.")


def _more(study: Study, most: int | None, *, free: bool) -> bool:
    """Whether there is a trial to begin: one that waits, or of a free search a new one; no more than `most` in all."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    waits = any(trial.state == TrialState.WAITING for trial in trials)
    return (free or waits) and (most is None or _counted(trials) < most)


def _counted(trials: Sequence[FrozenTrial]) -> int:
    """Trials that have begun, but for those that were interrupted."""
    from optuna.trial import TrialState

    return sum(
        trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        or (trial.state == TrialState.FAIL and "error" in trial.user_attrs)
        for trial in trials
    )


def _tell(study: Study, progress: bool) -> None:
    """Say what became of the last trial of this process."""
    if not progress:
        return
    mine = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("process") == this_process()]
    if not mine:
        return
    trial = mine[-1]
    came = f"{trial.value:.4f}" if trial.value is not None else trial.state.name.lower()
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()}
    options = ", ".join(f"{key}={value}" for key, value in shown.items())
    error = f": {trial.user_attrs['error']}" if "error" in trial.user_attrs else ""
    tell(f"trial {trial.number}, {options}: {came}{error}")


def _kept(study: Study, row: Row, config: Config) -> dict[str, Any]:
    """Write what came of all trials so far, and give it back."""
    from optuna.trial import TrialState

    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.params]
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not done:
        errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
        raise VptError(f"no trial came to its end: {errors[0] if errors else 'all were ended early'}")
    best = min(done, key=lambda trial: (-(trial.value or 0.0), order(trial.params), trial.number))
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "options": trial.params,
            "values": trial.user_attrs.get("values", []),
            "folder": f"{TRIALS}/{trial.user_attrs.get('folder', '')}",
            **({"error": trial.user_attrs["error"]} if "error" in trial.user_attrs else {}),
        }
        for trial in trials
    ]
    kept = {"chosen": best.params, "value": best.value, "seeds": row.select_seeds, "trials": rows}
    chosen = row.config(best.params, config.seed, row.out / "best")
    values = {key: value for key, value in configs.plain(chosen).items() if key not in configs.TABLES}
    ranked = sorted(rows, key=lambda each: (each["value"] is None, -(each["value"] or 0.0), each["number"]))
    table = [
        {"trial": each["number"], "state": each["state"], "val": each["value"], **each["options"]} for each in ranked
    ]
    with Lock(row.out, patience=60.0):
        files.write(row.out / KEPT, json.dumps(kept, indent=2) + "\n")
        files.write(row.out / BEST, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        files.write(row.out / "table.md", markdown(table))
        files.write(row.out / "table.csv", comma_separated(table))
    return kept
