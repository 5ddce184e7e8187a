"""At whatever file operation a process dies, the run that is gone on with ends with the bytes of one that never was."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.kills import content, dies, walk
from vpt import config, experiment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that dies is forked")

BASE: dict[str, Any] = {
    "backbone": "vpt/vit-nano",
    "method": "linear",
    "train": {"epochs": 2, "batch_size": 4, "lr": 0.1},
}


@pytest.fixture(scope="module", autouse=True)
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (30 * number, 200 * (number % 2), 0)).save(path)
    BASE["data"] = {"name": "folder", "path": str(folder), "val_fraction": 0.25, "test_fraction": 0.25}
    return folder


def settings(out: Path, **values: Any) -> config.Config:
    return config.parse(BASE | {"out": out / "run"} | values)


def train(**how: Any) -> Callable[[Path], Any]:
    return lambda folder: experiment.train(settings(folder), progress=False, **how)


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "train": (train(), train(resume=True)),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """A process that is forked has none of the threads of the one before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_died_anywhere_ends_as_one_that_did_not(kind: str, tmp_path: Path) -> None:
    begin, again = KINDS[kind]
    whole = tmp_path / "whole"
    whole.mkdir()
    # What it imports is then there for all others.
    begin(tmp_path / "first")
    assert not dies(lambda: begin(whole), at=0, below=whole)
    expected = content(whole)
    assert {"run/best/vpt.safetensors", "run/last/training.pt", "run/metrics.csv", "run/result.json"} <= expected.keys()
    count = 0
    for at, folder in walk(begin, again, tmp_path):
        count += 1
        found = content(folder)
        assert found.keys() == expected.keys(), at
        # Where a run lies is in its config.
        own = {name: data.replace(folder.name.encode(), b"whole") for name, data in found.items()}
        assert [name for name in expected if own[name] != expected[name]] == [], at
        shutil.rmtree(folder)
    print(count)
