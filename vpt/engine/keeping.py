"""What is kept of a run as it goes: first the state that it goes on from, then all that follows from it."""

from __future__ import annotations

from typing import Any

from vpt.engine.average import Average
from vpt.engine.record import Record
from vpt.engine.rundir import RunDir
from vpt.engine.state import State
from vpt.engine.steps import Steps
from vpt.errors import VptError
from vpt.model import Prompted


class Keeping:
    """The record of a run, in memory, and in its run directory where it has one.

    Args:
        model: what is trained.
        steps: that it takes.
        record: of its epochs.
        average: of what is trained.
        run: where it is kept; None for nowhere.
        facts: what the numbers of the run depend on: "processes", "backbone", "asked" and "data", as in `State`.
    """

    def __init__(
        self, model: Prompted, steps: Steps, record: Record, average: Average, run: RunDir | None, facts: dict[str, Any]
    ) -> None:
        self.model = model
        self.steps = steps
        self.record = record
        self.average = average
        self.run = run
        self.facts = facts
        if run is not None:
            # What is frozen stays as it is, and is read once in place of at every save.
            run.fingerprint = facts["backbone"]

    def go_on(self) -> bool:
        """Take up the state that is kept, if there is one, and make anew what follows from it.

        Raises:
            VptError: it is damaged, or that of another run.
        """
        state = self.run.training_state() if self.run else None
        if state is None or self.run is None:
            return False
        check_same(state, self.facts)
        self.record.load_state_dict({"history": state.history, "best": state.best.model_dump()})
        self.model.load_tuned_state(state.best.tuned)
        self.run.save_best(self.model, state.best.metrics)
        self.model.load_tuned_state(state.tuned)
        self.steps.load_state_dict({"optimizer": state.optimizer, "average": state.average, "scaler": state.scaler})
        self.run.save_last_model(self.model, state.history[-1])
        self.run.write_metrics(state.history)
        return True

    def epoch(self, row: dict[str, Any], *, better: bool) -> None:
        """Keep an epoch whose row has been taken into the record.

        Args:
            row: of the epoch.
            better: whether it is the best so far.
        """
        if self.run is None:
            return
        training = {"tuned": self.model.tuned_state(), **self.steps.state_dict(), **self.record.state_dict()}
        self.run.save_last(self.model, row, {**self.facts, **training})
        if better:
            with self.average.applied():
                self.run.save_best(self.model, self.record.best["metrics"])
        self.run.write_metrics(self.record.history)


def check_same(state: State, facts: dict[str, Any]) -> None:
    """Nothing, if a state is that of a run with the same numbers.

    Raises:
        VptError: it was begun otherwise.
    """
    if state.processes != facts["processes"]:
        raise VptError(
            f"the run was begun by {state.processes} processes together and would be gone on with by "
            f"{facts['processes']}, with other batches: start as many, or begin again with overwrite."
        )
    if state.backbone != facts["backbone"]:
        raise VptError(
            "the run was begun with other weights of the backbone than these: put those back, or begin again with "
            "overwrite."
        )
    then, now = ({**of["asked"], **_flat(of["data"])} for of in (state.model_dump(), facts))
    changes = [f"{key} was {then.get(key)} and is {now.get(key)}" for key in now if then.get(key) != now.get(key)]
    if changes:
        raise VptError(
            f"the run was begun otherwise ({', '.join(changes)}) and would come to other numbers: go on with it as it "
            "was begun, train further in another folder what it has learned, or begin again with overwrite."
        )


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    """Sizes and digests by a name that says whose they are."""
    parts = {split: facts or {"size": 0} for split, facts in data.items()}
    sizes = {f"the number of {split} images": facts["size"] for split, facts in parts.items()}
    return sizes | {f"the digest of {split} images": facts.get("digest") for split, facts in parts.items()}
