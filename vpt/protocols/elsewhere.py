"""Finished runs measured on other data than they were trained on, and the figures kept beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from pydantic import BaseModel

from vpt import build, experiment, sweep
from vpt.config import Config, differences, plain
from vpt.data.base import DataSet
from vpt.engine.outputs import joined, read_hits, trusted, write_predictions
from vpt.engine.results import DataFacts, read_json
from vpt.processes import on_main
from vpt.report.intervals import Measured
from vpt.sweep import Run

AGAIN = "delete it, and it is measured again"


def with_data(config: Config, section: Mapping[str, Any]) -> Config:
    """A checked `config` with another data set.

    Raises:
        VptError: no such data set or option.
    """
    return build.check(config.model_copy(update={"data": dict(section)}))


def measure_elsewhere(run: Run, sections: Mapping[str, Mapping[str, Any]], *, progress: bool) -> dict[str, float]:
    """Top-1 of a run's model on the test split of other data, whose class names it is given.

    It is kept in the run directory as NAME.json, with the facts of the data, and what was said of each image as
    NAME.csv. It is read from there the next time, unless it was measured with other options or on other images.

    Args:
        run: a finished one.
        sections: name and data section of each.
        progress: show it.

    Returns:
        Name to top-1, from 0 to 1.
    """
    found: dict[str, float] = {}
    model: Any = None
    assert run.config.out is not None
    for name, section in sections.items():
        config = with_data(run.config, section)
        path = run.config.out / f"{name}.json"
        kept = _kept(path, config)
        if kept is None:
            data = build.read_data(config)
            if experiment.source_of(run.config) == experiment.source_of(config):
                experiment.check_unseen(data, run.config.out)
            model = model or build.load_run(run.config.out)
            outputs: list[Any] = []
            test = experiment.measure_model(model, data, config, progress=progress, outputs=outputs)
            if isinstance(data, DataSet) and data.test is not None:
                rows = trusted({"test": (data.test, *joined(outputs))})[1]
                on_main(partial(write_predictions, run.config.out, rows, f"{name}.csv"))
            kept = {"format": 1, "config": _section(config), "data": data.facts(), "test": test}
            sweep.write(path, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        found[name] = kept["test"]["top1"]
    return found


def known_elsewhere(runs: Sequence[Run], name: str, top1: Sequence[float]) -> Measured:
    """What `measure_elsewhere` has kept of each image of NAME, with the figures that it gave of the runs."""
    folders = [run.config.out for run in runs if run.config.out is not None]
    kept = [read_json(folder / f"{name}.json", Kept, AGAIN) for folder in folders]
    images = min(each["data"]["sizes"]["test"] for each in kept)
    return Measured(mean(top1), images, read_hits(folders, name=f"{name}.csv"))


class Kept(BaseModel):
    """What a run makes of other data, as it is kept."""

    format: Literal[1] = 1
    config: dict[str, Any]
    data: DataFacts
    test: dict[str, float]


def _kept(path: Path, config: Config) -> dict[str, Any] | None:
    """What is kept at `path`, if it was measured with the same options on the same images."""
    if not path.is_file():
        return None
    kept = read_json(path, Kept, AGAIN)
    if differences(kept["config"], _section(config)):
        return None
    return kept if kept["data"]["digests"] == build.list_data(config).facts()["digests"] else None


def _section(config: Config) -> dict[str, Any]:
    return {"data": plain(config)["data"]}
