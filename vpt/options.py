"""Options of a function, checked against its own signature: unknown ones refused, the near name suggested."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache, wraps
from numbers import Integral, Real
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vpt.errors import VptError, did_you_mean
from vpt.values import field, untyped

P = ParamSpec("P")
R = TypeVar("R")

RULES = ConfigDict(arbitrary_types_allowed=True, extra="allow", allow_inf_nan=False)
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
LONGEST = 200


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only parameters of `function`, each with its type and default, as pydantic takes them.

    Of a class they are its constructor's, and those of the constructor above it that it passes keywords on to; or what
    its `option_fields` gives.
    """
    if hasattr(function, "option_fields"):
        own: dict[str, Any] = function.option_fields()
        return own
    found: dict[str, Any] = {}
    for target in reversed(_targets(function)):
        hints = get_type_hints(target, include_extras=True)
        parameters = inspect.signature(target).parameters.items()
        keywords = {name: each for name, each in parameters if each.kind is each.KEYWORD_ONLY}
        bare = next((name for name in keywords if name not in hints), None)
        if bare is not None:
            title = _title(function, "it")
            raise VptError(f"the option {bare} of {title} has no type: write {bare}: int, or what it is.")
        found |= {
            name: (hints[name], ... if each.default is each.empty else each.default) for name, each in keywords.items()
        }
    return found


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether `function` takes keywords beyond those it names."""
    if hasattr(function, "option_fields"):
        return False
    return _passes_on(_targets(function)[-1])


def checked(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    where: str,
    *,
    given: Iterable[str] = (),
    also: Iterable[str] = (),
) -> dict[str, Any]:
    """`options` with the types that `function` asks for; defaults are left to the function.

    Args:
        function: whose keyword-only parameters are the options.
        options: as written by the user.
        where: where they were written, to begin the sentence of an error with, e.g. "method".
        given: options that the program itself passes, and the user therefore cannot.
        also: further names that may stand beside them, for the near name in an error.

    Raises:
        VptError: an option that `function` does not have, or a value of the wrong type.
    """
    known = {name: field for name, field in options_of(function).items() if name not in set(given)}
    if not takes_any(function):
        check_names(options, known, where, _title(function, where), also=also)
    needed = {name: option for name, option in known.items() if name in options or option[1] is ...}
    return {name: untyped(value) for name, value in validated(schema_of(needed), options, where).items()}


def annotated(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`options` of a library's function or class, those checked whose types its signature tells.

    Others are its own affair, and so is None, by which libraries mean their default.

    Raises:
        VptError: a value of the wrong type.
    """
    plain = inspect.isclass(function) and not is_dataclass(function)
    hints = get_type_hints(vars(function)["__init__"] if plain else function)
    given = {name: value for name, value in options.items() if name in hints and value is not None}
    return {**options, **validated(schema_of({name: (hints[name], ...) for name in given}), given, where)}


def check_names(
    options: Iterable[str], known: Collection[str], where: str, title: str, *, also: Iterable[str] = ()
) -> None:
    """Nothing, if all options are among the known ones; `also` are further names that one may have meant.

    Raises:
        VptError: one is not; the near name is suggested.
    """
    for name in options:
        if name not in known:
            names = [*known, *also]
            hint = did_you_mean(name, names) if names else "there are none."
            raise VptError(f"{where}.{name} is no option of {title}: {hint}")


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose arguments that are texts, numbers, truths or of one class are checked to be what it asks for.

    What else it takes, such as images and names of classes, and which numbers and words make sense, it has to check
    itself.

    Raises:
        VptError: an argument of another type; the sentence names it.
    """
    signature = inspect.signature(function)

    @cache
    def schema() -> type[BaseModel]:
        hints = get_type_hints(function, include_extras=True)
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        single = [name for name, parameter in signature.parameters.items() if parameter.kind not in several]
        fields: dict[str, Any] = {name: (hints[name], None) for name in single if _is_simple(hints[name])}
        return create_model("Arguments", __config__=STRICT, **fields)

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        given = signature.bind(*args, **options).arguments
        validated(schema(), {name: _plain_number(given[name]) for name in schema().model_fields if name in given}, "")
        return function(*args, **options)

    return run


def _plain_number(value: Any) -> Any:
    """Numbers of other libraries, such as numpy's, as Python's own."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _is_simple(hint: Any) -> bool:
    if hint is str:
        return True
    if inspect.isclass(hint) and get_origin(hint) is None:
        return hint is not object and not issubclass(hint, Collection)
    return get_origin(hint) in (Union, UnionType) and all(_is_simple(part) for part in get_args(hint))


def schema_of(fields: Mapping[str, tuple[Any, Any]], base: type[BaseModel] | None = None) -> type[BaseModel]:
    """The schema of names with their types and defaults: no boolean is a number, and numbers are finite.

    Args:
        fields: as `options_of` gives them.
        base: a model whose further checks hold too.
    """
    read = {name: (field(hint), default) for name, (hint, default) in fields.items()}
    made: type[BaseModel] = create_model(
        "Options",
        __base__=base,
        __config__=None if base else RULES,
        **read,  # type: ignore[call-overload]
    )
    return made


def validated(schema: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` by pydantic's rules, its complaints told as one sentence that names the key."""
    try:
        model = schema.model_validate(dict(values))
    except ValidationError as error:
        # Of a type that may be None, what it may be else says more.
        first = next((e for e in error.errors() if e["type"] != "none_required"), error.errors()[0])
        name, *inside = first["loc"]
        key = ".".join(str(part) for part in (where, name) if part)
        if first["type"] == "missing" and not inside:
            raise VptError(f"{key} is missing: it has no default.") from error
        value, reason = first["input"], "it has too few parts" if first["type"] == "missing" else first["msg"]
        given, reason = repr(str(value) if isinstance(value, str) else value), reason.removeprefix("Value error, ")
        shown = given if len(given) <= LONGEST else f"{given[:LONGEST]}…"
        raise VptError(f"{key}={shown} will not do: {reason[:1].lower()}{reason[1:]}.") from error
    return {name: getattr(model, name) for name in values}


def _targets(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function; or a class's constructors, from its own up to the first that passes no further keywords on."""
    if not inspect.isclass(function):
        return [function]
    targets: list[Callable[..., Any]] = []
    for kind in function.__mro__:
        if "__init__" in vars(kind):
            targets.append(vars(kind)["__init__"])
            if not _passes_on(targets[-1]):
                break
    return targets


def _passes_on(target: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def _title(function: Callable[..., Any], where: str) -> str:
    return str(getattr(function, "name", "") or where)
