"""What there is can be found by reading."""

import argparse
import re
from pathlib import Path

import pytest

import vpt
from tests.test_architecture import MAY_IMPORT, PACKAGE
from vpt.cli import parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(found.choices)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_documentation(command: str) -> None:
    assert any(re.search(rf"\bvpt {command}\b(?!-)", page.read_text(encoding="utf-8")) for page in PAGES)


def test_every_page_stands_in_the_site_s_list() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    listed = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert pages == listed


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_file_and_folder_of_the_package_has_its_words_among_the_rooms() -> None:
    (rooms,) = re.findall(r"^## The rooms\n\n```text\n(.*?)^```", page("architecture.md"), re.M | re.S)
    there = {path.name for path in PACKAGE.glob("*.py")}
    there |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert there <= set(re.findall(r"[\w/.]+\.py\b|\w+/", rooms))
    assert set(re.findall(r"^  (\w+\.py|\w+/)", rooms, re.M)) <= there


def test_who_imports_data_is_told_as_it_is() -> None:
    (told,) = re.findall(r"`data` is imported by(.*?);", page("architecture.md"), re.S)
    assert set(re.findall(r"`(\w+)`", told)) == {room for room, others in MAY_IMPORT.items() if "data" in others}


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    entries = set(re.findall(r"^::: (\S+)$", page("api.md"), re.M))
    places = {name: vpt._PUBLIC[name].replace(":", ".") for name in vpt.__all__}
    # Of the module, what reads data sets.
    assert set({**places, "data": "vpt.data.load"}.values()) <= entries


def test_what_a_model_inherits_is_on_the_page_of_the_api() -> None:
    assert "::: vpt.model.Prompted\n    options:\n      inherited_members: true\n" in page("api.md")


def test_a_switch_costs_on_the_page_of_choices_what_was_measured() -> None:
    (told,) = re.findall(r"a tenth of the bytes for ([0-9.]+) times the time", page("choosing.md"))
    assert re.search(rf"^\| `recompute: block` \| [^|]* \| {told} \([^|]*\| 0\.10 \|$", page("performance.md"), re.M)
