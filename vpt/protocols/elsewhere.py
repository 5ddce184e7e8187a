"""Finished runs measured on other data than they were trained on, and the figures kept beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from vpt import build, experiment, sweep
from vpt.config import Config, differences, plain
from vpt.engine.results import DataFacts, read_json
from vpt.sweep import Run


def with_data(config: Config, section: Mapping[str, Any]) -> Config:
    """A checked `config` with another data set.

    Raises:
        VptError: no such data set or option.
    """
    return build.check(config.model_copy(update={"data": dict(section)}))


def measure_elsewhere(run: Run, sections: Mapping[str, Mapping[str, Any]], *, progress: bool) -> dict[str, float]:
    """Top-1 of a run's model on the test split of other data, whose class names it is given.

    It is kept in the run directory as NAME.json, with the facts of the data, and read from there the next time, unless
    it was measured with other options or on other images.

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
            model = model or build.load_run(run.config.out)
            test = experiment.measure_model(model, data, config, progress=progress)
            kept = {"format": 1, "config": _section(config), "data": data.facts(), "test": test}
            sweep.write(path, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        found[name] = kept["test"]["top1"]
    return found


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
    kept = read_json(path, Kept, "delete it, and it is measured again")
    if differences(kept["config"], _section(config)):
        return None
    return kept if kept["data"]["digests"] == build.list_data(config).facts()["digests"] else None


def _section(config: Config) -> dict[str, Any]:
    return {"data": plain(config)["data"]}
