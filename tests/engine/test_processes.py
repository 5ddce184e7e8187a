"""Two processes train and measure as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import torch
import vpt
from tests.engine.test_fit import pairs
from tests.zoo import vit

processes, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.manual_seed(0)
model = vpt.attach(vit(), "vpt-deep", num_tokens=3, num_classes=3).double()
train, val = ([(image.double(), label) for image, label in pairs(*which)] for which in ((24,), (9, 1)))
options = {"epochs": 2, "batch_size": 12 // processes, "lr": 0.05, "progress": False, "run_dir": folder}
keys = ("train/loss", "train/top1", "val/loss", "val/top1")
found = [[row[key] for key in keys] for row in vpt.fit(model, train, val, **options).history]
values = vpt.evaluate(model, val, batch_size=4 // processes, progress=False, groups={"a": range(4), "b": range(4, 9)})
found.append([values[key] for key in ("top1", "top1/a", "top1/b")])
# One write, which the other process cannot come between.
sys.stdout.write("".join("ROW " + " ".join(f"{number:.6f}" for number in row) + "\\n" for row in found))
"""


def rows(command: list[str], folder: Path) -> list[str]:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=folder)
    return [line for line in done.stdout.splitlines() if line.startswith("ROW")]


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    alone = rows([sys.executable, str(script), "1", "alone"], tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    together = rows([*launcher, str(script), "2", "together"], tmp_path)
    assert len(alone) == 3
    assert sorted(together) == sorted(alone * 2)
    assert {path.name for path in (tmp_path / "together").iterdir()} >= {"best", "last", "metrics.jsonl"}
