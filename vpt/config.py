"""Experiments as YAML: sections that are the keyword arguments of the functions they feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vpt.errors import VptError, did_you_mean
from vpt.options import schema_of, validated
from vpt.values import read_file, read_yaml, word

# Keys that make a table of experiments, and with others those that no result depends on.
TABLES = ("seeds", "compare", "select", "select_seeds", "search", "datasets", "shots", "targets")
NEUTRAL = (
    "out",
    *TABLES,
    "backbone.weights.name",
    "data.check",
    "data.cache",
    "data.new",
    "data.max_pixels",
    "train.workers",
    "train.compile",
    "train.recompute",
    "train.graph",
    "train.trackers",
)

# Of random numbers; numpy takes no more.
MOST_SEED = 2**32 - 1


class Config(BaseModel):
    """One experiment, or a table of them.

    Each section holds `name` and the options of what it names; a plain string is short for the name alone.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    backbone: dict[str, Any] = Field(description="name, and options as `vpt.create` takes them, such as dtype")
    method: dict[str, Any] = Field(description="name, and the method's own options")
    data: dict[str, Any] = Field(description="name, and options as `vpt.data` takes them")
    train: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of `vpt.fit`, such as compile, recompute and graph"
    )
    head: str | None = Field(default=None, description="linear, or text for class names as classifier")
    head_init: Literal["vpt"] | None = Field(
        default=None, description="how a linear head begins: vpt for VPT's code; by default N(0, 0.02) and no bias"
    )
    templates: list[str] | str = Field(
        default="data",
        description="sentences for class names: a list, data for the data set's own, or openai-7 or openai-80",
    )
    task: dict[str, Any] = Field(default_factory=dict, description="images with captions: loss, infonce or sigmoid")
    learn_scale: bool = Field(default=False, description="head text: train the scale of the logits too")
    text_chunk: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="texts at once, where memory does not hold all of them"
    )
    seed: int = Field(
        default=0, ge=0, le=MOST_SEED, description="of initialisation, order, augmentation, and of splits and shots"
    )
    start: str | None = Field(
        default=None, description="a finished run, or a saved model, that training begins with: what it has learned"
    )
    out: Path | None = Field(default=None, description="the run directory; runs/<name of the file> by default")
    seeds: list[int] = Field(default_factory=list, description="`vpt compare`: each row is run with each of these")
    compare: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="`vpt compare`: a row's label, and what it changes (key.path: value)",
    )
    select: dict[str, list[bool | int | float | str]] = Field(
        default_factory=dict,
        description="`vpt compare`: values to choose among on validation images (key.path: [value, …]); a row may "
        "have its own",
    )
    select_seeds: list[int] = Field(
        default_factory=list, description="seeds that this is done with; `seeds` by default"
    )
    search: dict[str, list[bool | int | float | str] | dict[str, Any]] = Field(
        default_factory=dict,
        description="`vpt sweep`: what is searched freely (key.path: [value, …], or {low: …, high: …, log: true})",
    )
    datasets: list[dict[str, Any]] = Field(
        default_factory=list,
        description="protocols: data sets by name, or as {name, options}, in place of `data`, whose shared options "
        "hold for each; `as` is its label, and keys with a dot change the config for it alone",
    )
    shots: dict[int, dict[str, Any]] = Field(
        default_factory=dict,
        description="`vpt few-shot`: images a class, as a list or each with what it changes (key.path: value)",
    )
    targets: list[dict[str, Any]] = Field(
        default_factory=list, description="`vpt transfer`: data sets to test on, by name or as {name, options}"
    )

    @field_validator("method", mode="before")
    @classmethod
    def _combined(cls, value: Any) -> Any:
        """Several methods in a list, as one with options by their names."""
        if not isinstance(value, list):
            return value
        from vpt.methods import called

        name, options = called(value)
        return {"name": name, **options}

    @field_validator("backbone", "method", "data", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        section = {"name": value} if isinstance(value, str) else value
        if isinstance(section, dict) and not isinstance(section.get("name"), str):
            raise ValueError("it needs a name")
        return section

    @field_validator("datasets", "targets", mode="before")
    @classmethod
    def _each_named(cls, value: Any) -> Any:
        return [cls._named(section) for section in (value if isinstance(value, list) else [value])]

    @field_validator("seeds", "select_seeds")
    @classmethod
    def _once(cls, values: list[int]) -> list[int]:
        cls._differ(values)
        wrong = next((value for value in values if not 0 <= value <= MOST_SEED), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is no seed, which is 0 to {MOST_SEED}")
        return values

    @field_validator("select")
    @classmethod
    def _apart(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for choices in grid.values():
            cls._differ(choices)
        return grid

    @staticmethod
    def _differ(values: list[Any]) -> None:
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice")

    @field_validator("shots", mode="before")
    @classmethod
    def _counts(cls, value: Any) -> Any:
        counts = [value] if isinstance(value, int) else value
        if not isinstance(counts, list):
            return counts
        cls._differ(counts)
        return {count: {} for count in counts}


def read(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The experiment in a YAML file, changed by "key.path=value" assignments.

    What stands behind the equals sign is taken as it stands, and means what the type of the option makes of it.

    Raises:
        VptError: no such file, no valid YAML, an unknown key (the near one is suggested) or a wrong value.
    """
    path = Path(path)
    if not path.exists():
        raise VptError(f"there is no config {str(path)!r}: name a YAML file, such as those in configs/.")
    values = read_yaml(read_file(path), str(path))
    if not isinstance(values, dict):
        raise VptError(f"{path} must hold a mapping with the keys {', '.join(Config.model_fields)}.")
    config = parse(changed(values, overrides), str(path))
    # Nothing, said or not, is the default.
    return config if config.out else config.model_copy(update={"out": Path(f"runs/{path.stem}")})


def changed(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Nested `values` after "key.path=value" assignments.

    Raises:
        VptError: one is none.
    """
    found = dict(values)
    for assignment in overrides:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise VptError(f"{assignment!r} is no assignment: write key.path=value, e.g. train.epochs=10.")
        found = assign(found, key, _said(key, text))
    return found


def parse(values: Mapping[str, Any], where: str = "config") -> Config:
    """A checked `Config` from plain values; errors as `read`'s."""
    for key in values:
        if key not in Config.model_fields:
            raise VptError(f"{key!r} in {where} is no key of a config: {did_you_mean(str(key), Config.model_fields)}")
    return Config.model_construct(**validated(SCHEMA, values, ""))


def assign(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested `values` with the entry at the dotted `key` set.

    A section that was a plain string becomes a mapping with this name; a new name drops the options that
    belonged to the old one. Keys of `select` and `search`, and of what a row changes, have dots themselves.
    """
    head, _, rest = key.partition(".")
    section = values.get(head, {})
    if not rest:
        return {**values, head: value}
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping):
        raise VptError(f"{key}={value} cannot be set: {head} is {section!r}, which has no parts.")
    if head in ("select", "search"):
        return {**values, head: {**section, rest: value}}
    if head == "compare":
        label = max((each for each in section if rest.startswith(f"{each}.")), key=len, default=rest.partition(".")[0])
        changed = rest.removeprefix(f"{label}.")
        whole = value if changed == rest else {**section.get(label, {}), changed: value}
        return {**values, head: {**section, label: whole}}
    if rest == "name" and section.get("name") != value:
        section = {}
    return {**values, head: assign(section, rest, value)}


def plain(config: Config) -> dict[str, Any]:
    """The config as values that YAML can hold."""
    values: dict[str, Any] = _plain(config.model_dump())
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _said(key: str, text: str) -> Any:
    """The value of an assignment; where a key holds a list or a mapping, one that is written out is read at once.

    Options and texts take the word as it stands: their own types say what it means.
    """
    whole = key if "." not in key else key.rpartition(".")[2] if key.startswith("compare.") else ""
    row = key.startswith("compare.") and text.startswith("{")
    if row or (whole in COLLECTIONS and text.startswith(("[", "{"))):
        return read_yaml(text, f"{key}={text}")
    return word(text)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two plain configs, or the same sections of them, differ in keys that a result may depend on."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    return [f"{key} was {old.get(key, 'not set')} and is {new.get(key, 'not set')}" for key in keys]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key, but for those that no result depends on."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if prefix + key in NEUTRAL:
            continue
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


COLLECTIONS = [name for name, each in Config.model_fields.items() if get_origin(each.annotation) in (dict, list)]
SCHEMA = schema_of({name: (each.annotation, each) for name, each in Config.model_fields.items()}, Config)
