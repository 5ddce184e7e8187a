"""From an experiment's config to a trained, measured and saved model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpt import data as datasets
from vpt.config import Config
from vpt.engine.fit import fit
from vpt.methods import find
from vpt.options import checked


def check(config: Config) -> Config:
    """`config` with every option of every section checked, before any data is read or weights are loaded.

    Raises:
        VptError: an unknown name or option, or a value of the wrong type.
    """
    method = _options(config.method)
    data = _options(config.data)
    reserved = {"run_dir": None, "resume": None, "overwrite": None, "progress": None, "seed": None}
    return config.model_copy(
        update={
            "method": {"name": config.method["name"]} | checked(find(config.method["name"]), method, "method"),
            "data": {"name": config.data["name"]} | datasets.checked_options(config.data["name"], data, "data"),
            "train": checked(fit, config.train, "train", given=reserved),
        }
    )


def _options(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "name"}
