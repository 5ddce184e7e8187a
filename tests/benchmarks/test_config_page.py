"""The page of a config's keys says what the code is."""

import re

import pytest

import vpt
from benchmarks.pages import config
from benchmarks.pages.__main__ import put
from benchmarks.pages.facts import ROOT
from vpt.build import RESERVED
from vpt.config import Config
from vpt.options import options_of

PAGE = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
KEYS = re.findall(r"^\| `(\S+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)


def test_it_is_made_by_the_command() -> None:
    assert put(PAGE, config.tables()) == PAGE, "run python -m benchmarks.pages"


def test_every_key_is_there_once_with_type_default_and_meaning() -> None:
    names = [key for key, *_ in KEYS]
    assert len(set(names)) == len(names)
    assert set(names) >= {
        *Config.model_fields,
        *(f"data.{name}" for name in options_of(vpt.data.load)),
        *(f"train.{name}" for name in options_of(vpt.fit) if name not in RESERVED),
    }
    assert all(part.strip() for row in KEYS for part in row)
    assert len(KEYS) == len(re.findall(r"^\| `", PAGE, re.M))


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (int | None, "int"),
        (list[int], "list of int"),
        (dict[str, int], "mapping"),
        (bool | str, "true or false or text"),
    ],
)
def test_types_are_told_as_they_are_written(hint: object, told: str) -> None:
    assert config.kind(hint) == told
