"""What there is can be found by reading."""

import argparse
import re
from pathlib import Path

import pytest

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
