"""Whose a run's folder is: one run at a time, and a run that is overwritten goes last."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import vpt
from tests.engine.test_fit import QUIET, model, pairs
from tests.kills import content, died, operations
from vpt import VptError, saving
from vpt.engine import folder, prepare
from vpt.engine.outputs import read_hits, read_predictions
from vpt.engine.results import read_history, read_result
from vpt.engine.rundir import RunDir
from vpt.engine.state import read_state
from vpt.saving import fingerprint

FIT: dict[str, Any] = {"epochs": 2, "batch_size": 6, **QUIET}
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that dies is forked")

HOLDS = """
import sys, time
from pathlib import Path
from vpt.engine.folder import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def train(place: Path, **how: Any) -> None:
    vpt.fit(model(), pairs(), run_dir=place, **{**FIT, **how})


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """Another process that writes to a folder."""
    (tmp_path / "run").mkdir()
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=root, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_run_in_a_folder_is_refused_by_name_until_the_first_is_gone(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(VptError, match=rf"run is written to by another run \(process {holder.pid} on .+\): wait"):
            train(tmp_path / "run", **how)
    # A process that is killed leaves its lock behind.
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / folder.LOCK).is_file()
    train(tmp_path / "run")
    assert not (tmp_path / "run" / folder.LOCK).exists()


def test_a_process_is_known_by_its_number_and_when_it_began() -> None:
    own = folder.this_process()
    assert folder.lives(own["pid"], own["began"])
    assert folder.lives(own["pid"], None)
    # Its number was another's before.
    assert not folder.lives(own["pid"], own["began"] - 60)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        began = psutil.Process(process.pid).create_time()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        # It has ended, and nobody has asked how.
        assert not folder.lives(process.pid, began)
    assert not folder.lives(process.pid, began)


def test_the_lock_of_a_process_whose_number_is_anothers_by_now_is_that_of_a_dead_one(tmp_path: Path) -> None:
    with folder.Lock(tmp_path) as lock:
        owner = lock.path.read_text()
    assert re.fullmatch(rf"process {os.getpid()} on \S+ since \d{{4}}-\S+", owner)
    assert folder._lives(owner)
    assert not folder._lives(re.sub(r"since \d{4}", "since 2001", owner))
    # Of older versions, of another machine, and of what else may stand there.
    for other in (
        owner.partition(" since")[0],
        re.sub("on .* since .*", "on elsewhere since 2001", owner),
        re.sub("since .*", "since noon", owner),
        "",
        "me",
    ):
        assert folder._lives(other)


def test_a_run_holds_its_folder_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run") as run:
        assert not run.path.exists()
        run.begin()
        with pytest.raises(VptError, match="is written to by another run"):
            RunDir(tmp_path / "run").begin()
    RunDir(tmp_path / "run").begin().close()


def test_a_run_that_fails_before_its_first_save_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = model()
    broken.head.weight.data[0] = torch.nan
    with pytest.raises(VptError, match="the loss is nan"):
        vpt.fit(broken, pairs(), run_dir=tmp_path / "run", **FIT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "mistake",
    [{"optimizer": "sdg"}, {"lr": -1.0}, {"precision": "fp16"}, {"augment": "crpo"}, {"lr": 1e30}, {"epochs": 0}],
    ids=str,
)
def test_a_run_that_is_overwritten_by_one_that_fails_is_as_it_was(mistake: dict[str, Any], tmp_path: Path) -> None:
    place = tmp_path / "run"
    train(place)
    (place / "notes.txt").write_text("mine")
    before = content(place)
    with pytest.raises(VptError):
        train(place, overwrite=True, **mistake)
    assert content(place) == before


def test_what_a_user_has_put_into_a_run_stays_when_it_is_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train(tmp_path / "run", overwrite=True, epochs=1)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "run" / folder.FORMER).exists()


def leave_and_return(place: Path) -> None:
    folder.set_aside(place)
    folder.bring_back(place)


def leave(place: Path) -> None:
    folder.set_aside(place)


def leave_and_forget(place: Path) -> None:
    folder.set_aside(place)
    (place / "last").mkdir()
    (place / folder.STATE).write_text("new")
    folder.forget(place)


@forks
@pytest.mark.parametrize("work", [leave, leave_and_return, leave_and_forget])
def test_at_whatever_operation_a_process_dies_a_run_is_whole_in_one_place(work: Any, tmp_path: Path) -> None:
    first = tmp_path / "first"
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "result.json",
        folder.STATE,
        "best/vpt.json",
        "notes",
    ):
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        (first / name).write_text(f"old {name}")
    whole = {name: data for name, data in content(first).items() if name != "notes"}
    count = operations(work, shutil.copytree(first, tmp_path / "counted"))
    for at in range(1, count + 1):
        place = shutil.copytree(first, tmp_path / f"{at}")
        assert died(work, place, at=at)
        assert folder.is_run(place)
        folder.settle(place)
        found = content(place)
        assert found.pop("notes") == b"old notes"
        aside = {name.removeprefix(f"{folder.FORMER}/"): data for name, data in found.items() if folder.FORMER in name}
        here = {name: data for name, data in found.items() if folder.FORMER not in name}
        if folder.has_saved(place) and here != whole:
            # The new run has come to its first save: the former one is being deleted.
            assert here == {folder.STATE: b"new"}
            assert aside.items() <= whole.items()
        else:
            assert whole in (here, aside)
        # And it is overwritten anew, wherever that was.
        folder.set_aside(place)
        assert not list(folder.own(place))


@pytest.mark.parametrize("place", [0, 40, 200, 1000, -200, -40, -1])
def test_a_state_that_is_damaged_anywhere_is_told(place: int, tmp_path: Path) -> None:
    train(tmp_path / "run", epochs=1)
    path = tmp_path / "run" / folder.STATE
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(VptError, match=r"training\.pt is damaged .+ begin again with overwrite"):
        train(tmp_path / "run", epochs=1, resume=True)


def test_every_field_of_a_state_is_checked(tmp_path: Path) -> None:
    from vpt.engine.state import write_state

    train(tmp_path / "run")
    path = tmp_path / "run" / folder.STATE
    good = torch.load(path, weights_only=True)
    assert read_state(path).history == good["history"]
    for name, value in {"tuned": None, "history": [], "best": {}, "processes": 0, "format": 3, "optimizer": 1}.items():
        write_state(path, {**good, name: value})
        with pytest.raises(VptError, match=f"training.pt is not what this version writes .*{name}"):
            read_state(path)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"epochs": 4}, "epochs was 2 and is 4"),
        ({"lr": 0.1}, "lr was 0.05 and is 0.1"),
        ({"batch_size": 4}, "batch_size was 6 and is 4"),
        ({"seed": 1}, "seed was 0 and is 1"),
    ],
)
def test_a_run_is_not_gone_on_with_otherwise_than_it_was_begun(
    how: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    train(tmp_path / "run")
    with pytest.raises(VptError) as error:
        train(tmp_path / "run", resume=True, **how)
    assert sentence in str(error.value)
    train(tmp_path / "run", resume=True, workers=1, compile=False)


def test_nor_with_other_data_or_another_number_of_processes(tmp_path: Path) -> None:
    from vpt.engine.state import write_state

    train(tmp_path / "run")
    with pytest.raises(VptError, match="the number of train images was 12 and is 9"):
        vpt.fit(model(), pairs(9), run_dir=tmp_path / "run", resume=True, **FIT)
    path = tmp_path / "run" / folder.STATE
    write_state(path, {**torch.load(path, weights_only=True), "processes": 2})
    with pytest.raises(VptError, match="begun by 2 processes together and would be gone on with by 1"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("after", [0, 5, 12, 20, 30])
def test_a_full_disk_is_one_sentence_and_what_was_saved_is_gone_on_with(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole")
    fsync, count = os.fsync, iter(range(1000))

    def full(descriptor: int) -> None:
        if next(count) >= after:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(VptError, match=r"cannot be written \(no space left on device\): make room on the disk"):
            train(tmp_path / "run")
    train(tmp_path / "run", resume=True)
    for name in ("best/vpt.safetensors", "last/vpt.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_disk_that_is_too_small_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(VptError, match=r"run needs .+ MB, and the disk has 0.0 MB left: make room"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Ends(torch.utils.data.Dataset[Any]):
    """Ends the worker that loads it, as the system does where memory is out."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return pairs()[index]


def test_a_worker_that_dies_is_told_in_a_sentence() -> None:
    for work in (lambda data: vpt.fit(model(), data, workers=1, **FIT), lambda d: vpt.evaluate(model(), d, workers=1)):
        with pytest.raises(VptError, match=r"a process that loads images died .+ set fewer train\.workers"):
            work(Ends())


def test_a_result_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    from tests.finished import finished

    path = tmp_path / "result.json"
    path.write_text(json.dumps(finished()))
    assert read_result(path)["val"] == {"top1": 0.5}
    for name, value in {"val": None, "seconds": "fast", "tuned_parameters": -1, "format": 9, "data": {}}.items():
        path.write_text(json.dumps({**finished(), name: value}))
        with pytest.raises(VptError, match=rf"result\.json is damaged \({name}.*: run it again with --overwrite"):
            read_result(path)
    trust = {"ece": 0.1, "nll": 0.2}
    calibrated = {**trust, "ece_calibrated": 0.1, "nll_calibrated": 0.2}
    for good in ({"test": trust}, {"temperature": 2.0, "val": calibrated, "test": calibrated}):
        path.write_text(json.dumps(finished(trust=good)))
        assert read_result(path)["trust"] == good
    for bad in (
        1e9,
        {"test": 1e9},
        {"temperature": 2.0, "test": trust},
        {"line": {"of": "weights", "points": {"a": []}}},
    ):
        path.write_text(json.dumps(finished(trust=bad)))
        with pytest.raises(VptError, match=r"is damaged \(trust"):
            read_result(path)
    for more in ({"confusion": [[1, 2]]}, {"test": {"top1": 0.5}, "data": {"name": "a", "sizes": {}, "digests": {}}}):
        path.write_text(json.dumps(finished(**more)))
        with pytest.raises(VptError, match=r"is damaged"):
            read_result(path)
    path.write_text(json.dumps(finished())[:50])
    with pytest.raises(VptError, match=r"result\.json is damaged"):
        read_result(path)


@pytest.mark.parametrize("row", ["{", "[]", '{"loss": 1}', '{"epoch": -1}', '{"epoch": 1, "loss": "x"}', "\xff"])
def test_rows_of_epochs_that_make_no_sense_are_told(row: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_history(path) == []
    path.write_bytes(b'{"epoch": 1, "train/loss": 0.5, "step": 3}\n' + row.encode("latin-1"))
    with pytest.raises(VptError, match=r"metrics\.jsonl is damaged \(.*: --resume writes it anew"):
        read_history(path)


@pytest.mark.parametrize(
    "row", ["val,1.png,0", "val,1.png,0,-1,0.5,,0.5", "val,1.png,0,1,2,,0.5", "val,1.png,0,x,0.5,,0.5"]
)
def test_predictions_that_make_no_sense_are_told(row: str, tmp_path: Path) -> None:
    head = "split,image,label,said,score,calibrated,of_label\nval,0.png,0,1,0.9,,0.1\n"
    (tmp_path / "predictions.csv").write_text(head)
    assert read_predictions(tmp_path)[0]["calibrated"] is None
    (tmp_path / "predictions.csv").write_text(head + row)
    with pytest.raises(VptError, match=r"predictions\.csv is damaged \("):
        read_predictions(tmp_path)


def test_hits_are_those_of_runs_on_the_same_images(tmp_path: Path) -> None:
    head = "split,image,label,said,score,calibrated,of_label\nval,0.png,0,0,0.9,,0.1\n"
    said = {"a": (0, 1, 1), "b": (0, 0, 1)}
    for run, (first, second, third) in said.items():
        rows = f"test,1.png,0,{first},0.9,,0.1\ntest,2.png,1,{second},0.9,,0.1\ntest,3.png,0,{third},0.9,,0.1\n"
        (tmp_path / run).mkdir()
        (tmp_path / run / "predictions.csv").write_text(head + rows)
    assert read_hits([tmp_path / "a"]) == (["1.png", "2.png", "3.png"], [[True, True, False]])
    assert read_hits([tmp_path / "a", tmp_path / "b"]) == (
        ["1.png", "2.png", "3.png"],
        [[True, True, False], [True, False, False]],
    )
    assert read_hits([tmp_path / "a"], "val") == (["0.png"], [[True]])
    # Of other images, or of a run that has kept nothing, there are none.
    (tmp_path / "b/predictions.csv").write_text(head + "test,1.png,0,0,0.9,,0.1\n")
    assert read_hits([tmp_path / "a", tmp_path / "b"]) is None
    assert read_hits([tmp_path / "a", tmp_path / "c"]) is None


def test_nor_with_other_weights(tmp_path: Path) -> None:
    train(tmp_path / "run")
    other = model()
    with torch.no_grad():
        next(iter(other.frozen_state().values())).add_(1.0)
    with pytest.raises(VptError, match="begun with other weights of the backbone than these"):
        vpt.fit(other, pairs(), run_dir=tmp_path / "run", resume=True, **FIT)


def test_weights_that_stay_as_they_are_are_read_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(tensors: Any) -> str:
        read.append(len(tensors))
        return fingerprint(tensors)

    for module in (saving, prepare):
        monkeypatch.setattr(module, "fingerprint", counted)
    vpt.fit(made := model(), pairs(), pairs(), **{**QUIET, "epochs": 3}, run_dir=tmp_path / "run")
    assert len(read) == 1
    saved = json.loads((tmp_path / "run/last/vpt.json").read_text())
    assert saved["backbone"]["fingerprint"] == fingerprint(made.frozen_state())
