"""Two processes train and measure as one does."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import BatchSampler

from vpt import launch
from vpt.cli import main
from vpt.engine.shares import Part

SCRIPT = """
import sys
import torch
import vpt
from tests.engine.test_fit import pairs
from tests.zoo import vit

processes, folder, images = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
model = vpt.attach(vit(), "vpt-deep", num_tokens=3, num_classes=3).double()
train, val = ([(image.double(), label) for image, label in pairs(*which)] for which in ((images,), (9, 1)))
options = {"epochs": 2, "batch_size": 12 // processes, "lr": 0.05, "progress": False, "run_dir": folder}
keys = ("train/loss", "train/top1", "val/loss", "val/top1")
found = [[row[key] for key in keys] for row in vpt.fit(model, train, val, **options).history]
values = vpt.evaluate(model, val, batch_size=4 // processes, progress=False, groups={"a": range(4), "b": range(4, 9)})
found.append([values[key] for key in ("top1", "top1/a", "top1/b")])
# One write, which the other process cannot come between.
sys.stdout.write("".join("ROW " + " ".join(f"{number:.6f}" for number in row) + "\\n" for row in found))
"""


STOPS = """
import sys
import torch
import vpt
from tests.engine.test_fit import pairs
from tests.zoo import vit

class Stops(vpt.Callback):
    # The second process alone says so, in the third step.
    def on_step(self, training):
        if training.step == 3 and not training.main:
            training.stop()

torch.set_num_threads(1)
torch.manual_seed(0)
model = vpt.attach(vit(), "vpt-deep", num_tokens=3, num_classes=3)
train = [(image, label) for image, label in pairs(24)]
result = vpt.fit(model, train, epochs=5, batch_size=6, lr=0.05, progress=False, callbacks=[Stops()], trackers=[])
sys.stdout.write(f"ROW {len(result.history)} {result.history[-1]['step']} {result.stopped_early}\\n")
"""


STEP = """
import sys
import torch
import vpt
from tests.text_models import image_text_model
from vpt.engine.evaluate import make_accelerator
from vpt.engine.steps import StepLoss
from vpt.tasks.image_text import ImageText

processes, file, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
accelerator = make_accelerator("fp32")
model = vpt.attach(image_text_model(logit_bias=-3.0), "full", head="text", learn_scale=True).double().train()
images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ids = model.tokenize([f"a photo of the number {i}" for i in range(8)])
each = 8 // processes
own = slice(accelerator.process_index * each, (accelerator.process_index + 1) * each)
step = StepLoss(model, ImageText(loss=name))
step = accelerator.prepare(step) if processes > 1 else step
loss, similarities, places = step((images[own], ids[own]))
loss.backward()
found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
found["loss"] = accelerator.reduce(loss.detach(), "mean")
found["similarities"], found["places"] = accelerator.gather((similarities, places))
if accelerator.is_main_process:
    torch.save(found, file)
"""

PAIRS = """
import json
import sys
import torch
import vpt
from tests.text_models import image_text_model
from vpt.data.pairs import SamplePairs
from vpt.tasks.image_text import ImageText

processes, folder, loss = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
scenes = vpt.data.load("scenes", train=29, val=7, test=0, side=24)
live = image_text_model(context_length=32, logit_bias=-3.0)
model = vpt.attach(live, "ivlp", head="text", learn_scale=True, depth=2).double()
options = {"epochs": 2, "batch_size": 12 // processes, "optimizer": "adamw", "lr": 0.01, "augment": "none"}
task = ImageText(loss=loss)
history = vpt.fit(model, scenes.train, scenes.val, task=task, progress=False, run_dir=folder, **options).history
keys = ("train/loss", "train/top1", "val/rsum", "val/i2t_r1", "val/t2i_r5", "val/i2t_median", "val/t2i_median")
found = [[row[key] for key in keys] for row in history]
values = vpt.evaluate(model, scenes.val, batch_size=4 // processes, progress=False)
found.append([values[key.removeprefix("val/")] for key in keys[2:]])
sys.stdout.write("".join("ROW " + " ".join(f"{number:.4f}" for number in row) + "\\n" for row in found))
"""

PROGRAD = """
import sys
import torch
import vpt
from tests.engine.test_last_words import made, photos

processes, images = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
model = made("prograd", num_tokens=6).double()
options = {"batch_size": 12 // processes, "lr": 5.0, "epochs": 3, "weight_decay": 1e-4, "warmup_epochs": 0}
vpt.fit(model, photos(images, 1), progress=False, **options)
values = model.method.context.values.detach().flatten()[:6].tolist()
sys.stdout.write("ROW " + " ".join(f"{number:.6f}" for number in values) + "\\n")
"""

# What a GPU would replay is acted out.
CAPTURED = """
from tests.tape import TapeRecorder
from vpt.engine import prepare

recorder = TapeRecorder()
prepare.recorder_of = lambda *_, **__: recorder
"""

CHECKED = """
assert recorder.replayed > recorder.captured >= 1
"""

# Statistics of batches, which are not those of all processes, and gradients of several passes.
DISTILLED = """
import sys
import torch
import vpt
from tests.engine.test_fit import pairs
from tests.zoo import vit
from vpt.processes import processes

torch.set_num_threads(1)
# Each process begins otherwise, were nothing done about it.
rank = processes().process_index
torch.manual_seed(rank)
head = torch.nn.Sequential(torch.nn.BatchNorm1d(24), torch.nn.Linear(24, 3))
model = vpt.attach(vit(), "vpt-deep", num_tokens=3, num_classes=3, head=head).double()
train = [(image.double(), label) for image, label in pairs(28)]
options = {"batch_size": 4, "accumulate": 2, "clip_norm": 0.05, "lr": 0.05, "epochs": 3}
vpt.fit(model, train, progress=False, trackers=[], **options)
state = model.tuned_state()
found = [float(tensor.double().norm()) for _, tensor in sorted(state.items())]
sys.stdout.write(f"ROW {rank}: " + " ".join(f"{number:.8f}" for number in found) + "\\n")
"""

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]


def rows(command: list[str], folder: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("ROW")]


def vpt(*arguments: str, folder: Path) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "vpt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_processes_that_vpt_starts_say_one_thing(tmp_path: Path) -> None:
    """A table, or one sentence, as of one process, and the same figures."""
    config = "{backbone: vpt/vit-nano, method: vpt-deep, data: {name: digits, shots: 2}, train: {epochs: 1}}"
    (tmp_path / "c.yaml").write_text(config)
    code, _, said = vpt("train", "c.yaml", "--processes", "2", "train.optimizer=nope", "out=no", folder=tmp_path)
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("vpt: timm has no optimizer 'nope'")
    assert not (tmp_path / "no").exists()
    code, out, said = vpt("train", "c.yaml", "--processes", "2", "out=run", "train.batch_size=10", folder=tmp_path)
    assert code == 0, said
    assert out.count("try: vpt predict run") == 1
    assert said.count("epoch 1/1") == 1
    command = ("eval", "run", "--json")
    together, alone = (json.loads(vpt(*command, *more, folder=tmp_path)[1]) for more in (["--processes", "2"], []))
    words = {key for key, value in alone.items() if isinstance(value, str)}
    assert {key: together[key] for key in words} == {key: alone[key] for key in words}
    numbers = alone.keys() - words
    assert {key: together[key] for key in numbers} == pytest.approx({key: alone[key] for key in numbers}, rel=1e-5)
    assert together.keys() == alone.keys()


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ({0: 2, 1: -15}, "the mistake of 0"),
        ({0: 1, 1: -9}, "process 2 of 2 was ended by SIGKILL; what was saved before stays: go on with --resume."),
        ({0: -15, 1: 1}, "the mistake of 1"),
    ],
)
def test_what_ended_the_first_process_is_told(
    codes: dict[int, int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def failure(rank: int, code: int) -> SimpleNamespace:
        message = f"the mistake of {rank}" if code > 0 else ""
        return SimpleNamespace(exitcode=code, timestamp=0, message=message, error_file_data={"message": message})

    failures = {rank: failure(rank, code) for rank, code in codes.items()}
    assert launch._failed(failures, 2) == (2 if codes[0] == 2 else 1)
    assert capsys.readouterr().err == f"vpt: {said}\n"


def test_a_process_that_vpt_started_hands_its_sentence_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("{backbone: vpt/vit-nano, method: linear, data: digits}")
    assert main(["train", str(tmp_path / "c.yaml"), "train.lrr=1", "--processes", "2"]) == 2
    assert "train.lrr is no option of train: did you mean 'lr'?" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert main(["trian"]) == 2
    assert "there is no command 'trian'" in capsys.readouterr().err
    monkeypatch.setenv("VPT_STARTED", "1")
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == ""
    assert "there is no command 'trian'" in json.loads((tmp_path / "error.json").read_text())["message"]
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["eval", "run", "--processes", "2"]) == 2
    assert "leave one of the two out" in (tmp_path / "error.json").read_text()


def test_two_processes_that_replay_their_steps_are_as_good_as_one(tmp_path: Path) -> None:
    """Of which one has no image in the last step."""
    alone, together = tmp_path / "alone.py", tmp_path / "together.py"
    alone.write_text(SCRIPT)
    together.write_text(CAPTURED + SCRIPT + CHECKED)
    expected = rows([sys.executable, str(alone), "1", "alone", "49"], tmp_path)
    assert len(expected) == 3
    assert sorted(rows([*LAUNCHER, str(together), "2", "together", "49"], tmp_path)) == sorted(expected * 2)


@pytest.mark.slow
def test_processes_that_replay_their_steps_have_one_model(tmp_path: Path) -> None:
    """The first one's of those that exchange gradients within the backward pass, statistics of its batches too."""
    eager, captured = tmp_path / "eager.py", tmp_path / "captured.py"
    eager.write_text(DISTILLED)
    captured.write_text(CAPTURED + DISTILLED + CHECKED)
    first, second = sorted(rows([*LAUNCHER, str(captured)], tmp_path))
    assert first.removeprefix("ROW 0") == second.removeprefix("ROW 1")
    assert first in rows([*LAUNCHER, str(eager)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["24", "29", "25"], ids=["even", "five in the last step", "one in the last step"])
def test_two_processes_are_as_good_as_one(images: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    alone = rows([sys.executable, str(script), "1", "alone", images], tmp_path)
    together = rows([*LAUNCHER, str(script), "2", "together", images], tmp_path)
    assert len(alone) == 3
    assert sorted(together) == sorted(alone * 2)
    assert {path.name for path in (tmp_path / "together").iterdir()} >= {"best", "last", "metrics.jsonl"}


@pytest.mark.slow
def test_what_one_process_stops_ends_in_all(tmp_path: Path) -> None:
    script = tmp_path / "stops.py"
    script.write_text(STOPS)
    assert rows([*LAUNCHER, str(script)], tmp_path) == ["ROW 2 3 True"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_the_gathered_loss_and_its_gradients_are_those_of_the_whole_batch(loss: str, tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(STEP)
    rows([sys.executable, str(script), "1", "alone.pt", loss], tmp_path)
    rows([*LAUNCHER, str(script), "2", "together.pt", loss], tmp_path)
    alone, together = (torch.load(tmp_path / name) for name in ("alone.pt", "together.pt"))
    assert alone.keys() == together.keys() > {"loss", "text.logit_scale", "tower.model.conv1.weight"}
    for name, tensor in alone.items():
        torch.testing.assert_close(
            together[name], tensor, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: name + text
        )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_two_processes_compare_images_and_texts_as_one_does(loss: str, tmp_path: Path) -> None:
    """Batches of training are gathered, and all images and captions meet where retrieval is measured."""
    script = tmp_path / "pairs.py"
    script.write_text(PAIRS)
    alone = rows([sys.executable, str(script), "1", "alone", loss], tmp_path)
    together = rows([*LAUNCHER, str(script), "2", "together", loss], tmp_path)
    assert len(alone) == 3
    assert sorted(together) == sorted(alone * 2)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["24", "29"])
def test_prograd_corrects_the_gradient_of_all_processes(images: str, tmp_path: Path) -> None:
    script = tmp_path / "prograd.py"
    script.write_text(PROGRAD)
    alone = rows([sys.executable, str(script), "1", images], tmp_path)
    assert rows([*LAUNCHER, str(script), "2", images], tmp_path) == alone * 2
    script.write_text(CAPTURED + PROGRAD + CHECKED)
    assert rows([*LAUNCHER, str(script), "2", images], tmp_path) == alone * 2


def test_images_of_a_step_are_dealt_so_that_each_comes_once() -> None:
    for images, size, processes, drop in product((1, 2, 5, 12, 13), (1, 3, 4), (2, 3), (False, True)):
        whole = BatchSampler(range(images), size, drop)
        parts = [list(Part(whole, rank=rank, processes=processes)) for rank in range(processes)]
        steps = Part(whole, rank=0, processes=processes).sizes()
        assert all(len(part) == len(steps) for part in parts)
        taken = [part[step][: sizes[rank]] for step, sizes in enumerate(steps) for rank, part in enumerate(parts)]
        found = [index for batch in taken for index in batch]
        kept = images - images % (size * processes) if drop and images >= size * processes else images
        assert found == list(range(kept))
        assert all(max(sizes) - min(sizes) <= 1 for sizes in steps)
