"""Values as users write them, in YAML and as KEY=VALUE, and what the type of an option makes of them.

A word without quotes has no meaning by itself: `no` is a folder where a folder is asked for, and false where that is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from vpt.errors import VptError

LARGEST = 1_000_000
DEEPEST = 50
PREFIX = "tag:yaml.org,2002:"
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+)")
# A union takes the first that fits: text, which always does, comes last.
ORDER: dict[Any, int] = {NoneType: 0, bool: 1, int: 2, float: 3, Literal: 5, Path: 6, str: 7}


class Typed(str):
    """A word without quotes that may be a text or something else: the type of its option says which."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Loader(yaml.SafeLoader):
    """YAML whose plain scalars are `Typed`, and whose keys are texts, each of which stands once in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, `<<` taken in."""
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = [key for key in own if own.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is there twice", node.start_mark)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def scalar(self, node: Any) -> Any:
        """A scalar of any kind."""
        if node.style is not None:
            return node.value
        return None if node.value in ("", "~", "null", "Null", "NULL") else word(node.value)


Loader.yaml_constructors = {
    f"{PREFIX}map": yaml.SafeLoader.construct_yaml_map,
    f"{PREFIX}seq": yaml.SafeLoader.construct_yaml_seq,
    None: yaml.SafeLoader.construct_undefined,
} | {f"{PREFIX}{kind}": Loader.scalar for kind in ("null", "bool", "int", "float", "timestamp", "value", "str")}


def _written(dumper: yaml.SafeDumper, word: Typed) -> yaml.ScalarNode:
    return dumper.represent_scalar(dumper.resolve(yaml.ScalarNode, str(word), (True, False)), str(word))


yaml.SafeDumper.add_representer(Typed, _written)


def word(text: str) -> Any:
    """A word without quotes: a number or a truth that is written as Python writes it back, a text, or `Typed`."""
    value = untyped(Typed(text)) if not text.startswith(("[", "{")) else None
    if isinstance(value, bool | int | float):
        return value if text == (str(value).lower() if isinstance(value, bool) else repr(value)) else Typed(text)
    return text if value == text and not text[:1].isdigit() else Typed(text)


def read_yaml(text: str, where: str) -> Any:
    """What a YAML text holds.

    Raises:
        VptError: it is no YAML, a key is there twice, or it is nested without end.
    """
    try:
        value = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise VptError(f"{where} is no valid YAML: {' '.join(str(error).split()).rstrip('.')}.") from error
    _check_size(value, where)
    return value


def read_file(path: Path) -> str:
    """The text of a file that is not larger than a config can be.

    Raises:
        VptError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise VptError(f"{path} is larger than {LARGEST:,} bytes, and no config: correct the path.")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise VptError(f"{path} cannot be read ({error}): correct the path or the file.") from error


def untyped(value: Any) -> Any:
    """`value` where no type says more: numbers, true, false and null as YAML 1.2 reads them, all else as text."""
    if isinstance(value, Mapping):
        return {key: untyped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(untyped(part) for part in value)
    if not isinstance(value, Typed):
        return value
    if value.startswith(("[", "{")):
        with suppress(VptError):
            return untyped(read_yaml(str(value), str(value)))
    if value.lower() in TRUTHS or value in ("", "null", "~"):
        return TRUTHS.get(value.lower())
    if NUMBER.fullmatch(value):
        return float(value) if set(value) & set(".eE") else int(value)
    return str(value)


def field(hint: Any, *, alone: bool = True) -> Any:
    """The type `hint`, as pydantic is to check it: `Typed` words are read, and a boolean is no number.

    Args:
        hint: a type as it stands in a signature.
        alone: whether it is no part of a union, so that a text in quotes may stand for a number.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return Annotated[field(parts[0], alone=alone), *hint.__metadata__]
    if kind in (Union, UnionType):
        ordered = sorted(parts, key=lambda part: ORDER.get(get_origin(part) or part, 4))
        several = any(part in (str, Path) for part in parts) or {int, float} <= set(parts)
        return Annotated[
            Union[tuple(field(part, alone=not several) for part in ordered)],  # noqa: UP007  (made at run time)
            Field(union_mode="left_to_right"),
        ]
    if hint is NoneType:
        return Annotated[None, BeforeValidator(_none)]
    if hint in (int, float):
        reader = _number if alone else _bare_whole if hint is int else _bare_number
        return Annotated[hint, BeforeValidator(reader)]
    if hint in READERS:
        return Annotated[hint, BeforeValidator(READERS[hint])]
    if kind is Literal:
        return Annotated[hint, BeforeValidator(partial(_choice, choices=parts))]
    if kind in (list, tuple, dict) or (isinstance(kind, type) and issubclass(kind, Sequence | Mapping)):
        return Annotated[kind[tuple(part if part is ... else field(part) for part in parts)], READ_COLLECTION]
    return hint


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    return str(value) if isinstance(value, str) and value in choices else untyped(value)


def _none(value: Any) -> Any:
    return None if isinstance(value, Typed) and value in ("", "null") else value


def _truth(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError("truth", "input should be true or false")
    return TRUTHS.get(value.lower(), value) if isinstance(value, Typed) else value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, Typed) and value.lower() in TRUTHS):
        raise PydanticCustomError("boolean", "a boolean is no number")
    if isinstance(value, Integral):
        return int(value)
    # numpy's too.
    return float(value) if isinstance(value, Real) else value


def _bare_number(value: Any) -> Any:
    if isinstance(value, str) and not (isinstance(value, Typed) and NUMBER.fullmatch(value)):
        raise PydanticCustomError("no_number", "input should be a number")
    return _number(value)


def _bare_whole(value: Any) -> Any:
    if isinstance(value, float) or (isinstance(value, Typed) and set(value) & set(".eE")):
        raise PydanticCustomError("no_whole", "input should be a whole number")
    return _bare_number(value)


def _text(value: Any) -> Any:
    """A text; a number or a path that stands where a text is asked for is what was written."""
    if isinstance(value, str) and "\0" in value:
        raise PydanticCustomError("null_character", "a text cannot hold a null character")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, Typed | int | float | Path) else value


def _path(value: Any) -> Any:
    if not isinstance(value, str | int | float | Path):
        return value
    path = Path(_text(value) if not isinstance(value, Path) else value)
    try:
        return path.expanduser()
    except RuntimeError:
        # "~name" of nobody is a name like any other.
        return path


def _collection(value: Any) -> Any:
    """A list or mapping that was written as [a, b] or {a: b}; anything else as it is."""
    if not isinstance(value, Typed) or not value.startswith(("[", "{")):
        return value
    try:
        return read_yaml(str(value), str(value))
    except VptError as error:
        raise PydanticCustomError("no_yaml", "{reason}", {"reason": str(error).rstrip(".")}) from error


READERS: dict[Any, Any] = {bool: _truth, str: _text, Path: _path}
READ_COLLECTION = BeforeValidator(_collection)


def _check_size(value: Any, where: str) -> None:
    """Nothing, if what aliases of YAML repeat comes to an end."""
    count, level = 0, [value]
    for _ in range(DEEPEST):
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
        count += len(level)
        if not level:
            return
        if count > LARGEST:
            break
    raise VptError(f"{where} is nested without end: write it without aliases, or less deeply.")
