"""The parts of many tasks and of the service run, and tell what they measured."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main


@pytest.mark.slow
def test_a_bank_is_held_against_models_and_against_mixed_adapters(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["bank", "--quick", "--repeats", "1", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))["parts"]["bank"]
    assert [(row["facts"]["method"], row["facts"]["tasks"]) for row in rows] == [
        ("vpt-deep", 1),
        ("vpt-deep", 3),
        ("clip-lora", 1),
        ("clip-lora", 3),
    ]
    assert ["PEFT, mixed / bank" in row["ratios"] for row in rows] == [False, False, True, True]
    assert [row["facts"]["adapters of PEFT"] for row in rows] == [0, 0, 1, 3]
    assert all(row["facts"]["grew by MB in 50 replacements"] < 16 for row in rows)
    assert rows[1]["facts"]["bank MB"] < rows[1]["facts"]["models MB"]


@pytest.mark.slow
def test_the_service_loses_nothing_under_load(tmp_path: Path) -> None:
    assert main(["serve", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "serve.json").read_text(encoding="utf-8"))
    rows = found["rows"]
    assert found["memory"]["requests"] == sum(row["requests"] for row in rows)
    assert found["memory"]["flat"]
    assert [row["clients"] for row in rows] == [1, 2]
    assert all(row["requests"] > 0 and row["lost"] == row["wrong"] == 0 for row in rows)
