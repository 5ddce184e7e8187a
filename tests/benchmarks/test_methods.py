"""The rows of the table of image methods, each of which is to be made as its config says."""

import pytest
import torch

from benchmarks.measure import Setting
from benchmarks.methods import CONFIG, METHODS, model_of
from vpt.methods import available, find


@pytest.mark.parametrize("label", METHODS)
def test_each_row_is_a_model_with_a_linear_head(label: str) -> None:
    model = model_of(label, Setting(quick=True), 2)
    assert model.head is not None
    assert model.num_tuned() > sum(p.numel() for p in model.head.parameters()) or label == "linear"
    with torch.no_grad():
        assert model(torch.randn(2, 3, 80, 80)).shape == (2, 100)


def test_no_method_that_takes_a_linear_head_is_left_out() -> None:
    rows = [row["method"] for row in CONFIG.compare.values()]
    names = {row["name"] if isinstance(row, dict) else row for row in rows if not isinstance(row, list)}
    assert names == {name for name in available() if "linear" in find(name).heads}
