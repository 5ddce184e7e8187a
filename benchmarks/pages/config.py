"""The keys of a config: each with its type, default and meaning, read off what reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import vpt
from benchmarks.pages.facts import arguments_of
from benchmarks.pages.methods import BEGIN, END, sentence
from vpt.build import OF_ANY, RESERVED
from vpt.config import NEUTRAL, TABLES, Config
from vpt.options import options_of
from vpt.tasks.image_text import ImageText

WORDS = {bool: "true or false", int: "int", float: "float", str: "text", Path: "path"}
# What `data.seed` is where a config does not say it.
SEED = "the config's `seed`"

# Name, type, default and meaning.
Row = tuple[str, str, str, str]


def tables() -> str:
    """Everything between the page's marks."""
    fields = [_field(name) for name in Config.model_fields]
    own = {"backbone": vpt.create, "data": vpt.data.load, "train": vpt.fit, "task": ImageText}
    kept = {"backbone": set(OF_ANY), "train": set(options_of(vpt.fit)) - set(RESERVED)}
    parts = [
        "## An experiment",
        _table(row for row in fields if row[0] not in TABLES),
        "## Several experiments",
        _table(row for row in fields if row[0] in TABLES),
    ]
    for section, function in own.items():
        parts += [f"## {section}", NOTES[section], _table(_options(section, function, kept.get(section)))]
    same = [f"`{key}`" for key in NEUTRAL if key not in (*TABLES, "backbone.weights.name")]
    parts += ["## What no result depends on", f"{', '.join(same[:-1])} and {same[-1]}: a resumed run may have others."]
    return BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END


NOTES = {
    "backbone": "`name`, and these for any library. `vpt list backbones` has the names; what else is given goes to the "
    "library's own constructor.",
    "data": "`name`, these, and the options of the data set itself, which `vpt list datasets` shows.",
    "train": "The arguments of [`vpt.fit`](api.md).",
    "task": "For images with captions.",
}


def _field(name: str) -> Row:
    field = Config.model_fields[name]
    needed = field.is_required()
    return (
        name,
        kind(field.annotation),
        "needed" if needed else shown(field.get_default(call_default_factory=True)),
        (field.description or ""),
    )


def _options(section: str, function: Any, kept: set[str] | None) -> Iterable[Row]:
    told = arguments_of(function.__doc__ or "")
    for name, (hint, default) in options_of(function).items():
        if kept is None or name in kept:
            of_the_config = (section, name) == ("data", "seed")
            yield f"{section}.{name}", kind(hint), SEED if of_the_config else shown(default), told[name]


def kind(hint: Any) -> str:
    """What may be written for a type; what only Python can give is left out."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return kind(args[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(filter(None, map(kind, args))))
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in args)
    if origin is list:
        return f"list of {kind(args[0])}" if get_origin(args[0]) is None else "list"
    if origin in (dict, Mapping):
        return "mapping"
    return WORDS.get(hint, "")


def shown(value: Any) -> str:
    """A default as YAML has it."""
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _table(rows: Iterable[Row]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, of, default, told in rows:
        # Docstrings go on from one argument to the next; and <…> would be a tag.
        meaning = re.sub(r"; (or|but)$", "", told.rstrip(".")).replace("<", "&lt;")
        lines.append(f"| `{name}` | {of} | {default} | {sentence(meaning)} |")
    return "\n".join(lines)
