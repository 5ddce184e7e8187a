"""The notebooks run from top to bottom, offline, and are shipped with their outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shipped_as_it_ran(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any(cell.outputs for cell in cells)
    # Where they ran is nobody's business, and no output is an error that was left in.
    assert not re.search(r"/(tmp|home|root|work|Users)/|site-packages|Traceback", path.read_text(encoding="utf-8"))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


def test_there_is_a_notebook_for_each_way_in() -> None:
    assert {path.stem for path in NOTEBOOKS} == {
        *("own_pictures", "few_shot_clip", "retrieval", "own_method", "many_tasks"),
    }


def test_a_model_a_run_and_training_show_themselves() -> None:
    """As HTML, in what is shipped: a summary of the model, one of the run, and the curves of training."""
    cells = nbformat.read(NOTEBOOKS[0].with_stem("few_shot_clip"), as_version=4).cells
    shown = {
        cell.source: "".join(str(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
        for cell in cells
        if cell.cell_type == "code"
    }
    assert "Prompted model" in shown['models["maple"]']
    assert "<svg" in shown['runs["maple"]']
    (training,) = (html for source, html in shown.items() if "vpt.fit(" in source)
    assert "<svg" in training
    assert "epoch 12/12" in training


TRAINING = [
    "import vpt",
    "data = vpt.data.load('digits', shots=2)\nmodel = vpt.create('vpt/vit-nano', 'linear', classes=data.classes)",
    "result = vpt.fit(model, data.train, data.val, epochs=2, batch_size=4, optimizer='adamw', lr=0.01)",
    "result",
]


def test_training_leaves_one_line_an_epoch_in_a_notebook_without_widgets() -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in TRAINING]
    NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=120).execute()
    assert [len(cell.outputs) for cell in cells] == [0, 0, 1, 1]
    lines = cells[2].outputs[0].data["text/plain"].rstrip().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert lines[1].endswith("done")
    assert len(cells[3].outputs[0].data["text/plain"]) < 400
