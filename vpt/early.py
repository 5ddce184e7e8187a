"""What of a config is checked before torch is imported, which takes seconds: names and types, in each of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from vpt import config
from vpt.config import Config
from vpt.errors import VptError, did_you_mean
from vpt.options import check_names, schema_of, validated
from vpt.source import Fields, class_fields, function_fields, names_in_package

METHODS = "vpt.methods"


def check_early(settings: Config) -> None:
    """Nothing, if options of training and of methods of this package exist, and values are of their types.

    What needs the model or the data, such as the range of a learning rate, is checked with them.

    Raises:
        VptError: an unknown option or method, where the near name is suggested, or a value of the wrong type.
    """
    for each in (settings, *_changed(settings)):
        _check_section(each.train, function_fields("vpt.engine.fit", "fit"), "train")
        _check_values(each.data, function_fields("vpt.data", "load"), "data")
        _check_method(each.method)


def _changed(settings: Config) -> Iterator[Config]:
    """The config of each row, and with each of the values to select among."""
    values = {key: value for key, value in config.plain(settings).items() if key not in config.TABLES}
    rows = {f"compare.{label}": changes for label, changes in settings.compare.items()}
    for where, changes in (rows or {"select": {}}).items():
        row = _assigned(values | {"select": settings.select}, changes, where)
        yield row
        for key, choices in row.select.items():
            for value in choices:
                yield _assigned(config.plain(row), {key: value}, where)


def _assigned(values: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> Config:
    for key, value in changes.items():
        values = config.assign(values, key, value)
    return config.parse(values, where)


def _check_method(section: Mapping[str, Any]) -> None:
    """Refuse what no method of this package takes; combinations and those of other packages are not looked into."""
    name, options = section["name"], {key: value for key, value in section.items() if key != "name"}
    if ":" in name or "+" in name.rstrip("+"):
        return
    known = names_in_package(METHODS)
    if name not in known:
        known += [point.name for point in entry_points(group=METHODS)]
        if name not in known:
            raise VptError(f"there is no method {name!r}: {did_you_mean(name, known, see='vpt list methods')}")
        return
    fields = class_fields(METHODS, name)
    if fields is not None:
        _check_section(options, fields, "method", name)


def _check_section(options: Mapping[str, Any], fields: Fields, where: str, title: str = "") -> None:
    check_names(options, fields, where, title or where)
    _check_values(options, fields, where)


def _check_values(options: Mapping[str, Any], fields: Fields, where: str) -> None:
    known = {name: fields[name] for name in options if name in fields}
    validated(schema_of(known), {name: options[name] for name in known}, where)
