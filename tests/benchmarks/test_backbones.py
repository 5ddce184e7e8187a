"""The page of backbones is of the models that are tested now."""

import re
from pathlib import Path

from benchmarks.backbones import BEGIN, examples, rows, table

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


def test_the_page_has_a_row_for_each_model_that_is_tested_and_no_law_is_broken() -> None:
    written = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2]
    found = re.findall(r"^\| (.+?) \| \w+ \w+ \|.* (\S+) \|$", written, re.M)
    assert [name for name, _ in found] == list(examples())
    assert all(float(error) < 1e-5 for _, error in found)


def test_a_row_says_which_way_prompts_go_and_which_methods_have_a_place() -> None:
    (found,) = rows(["hub"])
    assert found["blocks"] == "not entered"
    assert (found["vpt-deep"], found["linear"]) == ("–", "yes")
    assert "1 models, 0 of them opened" in table([found])
