"""The rows of the table of methods for images and texts, each of which is to be made as its config says."""

import pytest
import torch

from benchmarks.measure import Setting, saved_bytes
from benchmarks.text_methods import CONFIG, METHODS, case, model_of
from vpt.methods import available, find

# Of 5 classes, on two blocks of 32 pixels.
QUICK = Setting(quick=True)


@pytest.mark.parametrize("label", METHODS)
def test_each_row_is_a_model_whose_step_lowers_its_loss(label: str) -> None:
    model = model_of(label, QUICK)
    if not model.parameter_groups():
        assert label.partition(",")[0] in ("zero-shot", "tip-adapter", "gda")
        return
    made = case(label, model, 2, QUICK)
    step = made.runs["step"]
    assert step.forward
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    first = step.forward().item()
    for _ in range(5):
        step.call()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert changed <= {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert step.forward().item() < first
    assert saved_bytes(step.forward, made.constants) > 0


def test_no_method_that_takes_class_names_alone_is_left_out() -> None:
    rows = [row["method"] for row in CONFIG.compare.values()]
    flat = [part for row in rows for part in (row if isinstance(row, list) else [row])]
    names = {part["name"] if isinstance(part, dict) else part for part in flat}
    # promptkd learns from a teacher and not from shots: it is a row of lit_base_to_new.yaml.
    texts_alone = {name for name in available() if "linear" not in find(name).heads} - {"promptkd"}
    assert names == texts_alone | {"vpt-deep", "clip-lora"}
