"""What there is can be found by reading."""

import argparse
import re
from pathlib import Path

import pytest

from vpt.cli import parser
from vpt.methods import available

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return list(found.choices)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_documentation(command: str) -> None:
    assert any(re.search(rf"\bvpt {command}\b(?!-)", page.read_text(encoding="utf-8")) for page in PAGES)


def test_every_page_stands_in_the_site_s_list_and_every_method_on_its_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    listed = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert pages == listed
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", methods, re.M) == sorted(available())


def test_the_way_in_runs() -> None:
    """The Python of docs/index.md."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.S)
    exec(compile(block, "docs/index.md", "exec", dont_inherit=True), {})
