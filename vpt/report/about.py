"""What a saved model tells of the run that it came from, without telling of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

# Of a config: where things lie here, and tables that the run was one of.
LEFT_OUT = ("out", "start", "seeds", "compare", "select", "select_seeds", "search", "datasets", "shots", "targets")
PLACES = ("path", "weights", "train", "val", "test", "cache_dir", "root")


def about_run(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The data, the command and the config of a run.

    Args:
        config: of the run, resolved; None where there is none.

    Returns:
        "data", "command" and "config", in which files and folders are named without those that they lie in.
    """
    if not config or "data" not in config:
        return {}
    kept = {
        key: _without_places(value) for key, value in config.items() if key not in LEFT_OUT and value not in (None, {})
    }
    data = kept["data"]
    named = data.get("path")
    title = data["name"] if named is None else f"{data['name']} {named}"
    return {"data": title, "command": "vpt train config.yaml", "config": kept}


def _without_places(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _without_places(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_places(part, key) for part in value]
    return _name(value) if isinstance(value, str) and (key in PLACES or _is_absolute(value)) else value


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", "~", "\\")) or PureWindowsPath(text).is_absolute()


def _name(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).name or text
