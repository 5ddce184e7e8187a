"""At whatever file operation a process dies, what is gone on with ends with the bytes of what was never ended.

Every operation of every kind is a matter of minutes: `pytest -m slow tests/test_kills.py -s` tells how many there are.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from tests.kills import Work, content, died, operations, states
from vpt import VptError, config, experiment, protocols, sweep
from vpt.pretrain import pretrain

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that dies is forked")

TRAIN = {"epochs": 2, "batch_size": 4, "lr": 0.1}
BASE: dict[str, Any] = {"backbone": "vpt/vit-nano", "method": "linear", "train": TRAIN}
SHORT = {"train": {**TRAIN, "epochs": 1}}
PROMPTS = {"backbone": "vpt/clip-nano", "method": {"name": "coop", "num_tokens": 2}, **SHORT}
ZERO_SHOT = {"backbone": "vpt/clip-nano", "method": "zero-shot", "train": {}}
# How many operations are tried of each kind, where not all are.
SOME = 4


class Kind(NamedTuple):
    """What is begun, how it is gone on with, what lies in the folder before, and what it ends with."""

    begin: Work
    again: Work
    before: Work | None
    writes: set[str]


@pytest.fixture(scope="module", autouse=True)
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Images of four classes; and one thread, since a process that is forked has none of those before."""
    folder, threads = tmp_path_factory.mktemp("photos"), torch.get_num_threads()
    for number in range(16):
        path = folder / "abcd"[number % 4] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (15 * number, 60 * (number % 4), 0)).save(path)
    BASE["data"] = {"name": "folder", "path": str(folder), "val_fraction": 0.25, "test_fraction": 0.25}
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(folder: Path, **values: Any) -> config.Config:
    return config.parse(BASE | {"out": folder / "run"} | values)


def train(values: dict[str, Any] | None = None, **how: Any) -> Work:
    return lambda folder: experiment.train(settings(folder, **(values or {})), progress=False, **how)


def table(make: Callable[..., Any], values: dict[str, Any]) -> Work:
    return lambda folder: make(settings(folder, **values), progress=False)


def whole_backbone(**how: Any) -> Work:
    return lambda folder: pretrain(settings(folder, method="full", **SHORT), progress=False, **how)


def resumed_or_overwritten(folder: Path) -> None:
    """As long as the former run is there it is not gone on with by another config."""
    try:
        train(resume=True)(folder)
    except VptError as error:
        if "was run with another config (train.epochs was 1 and is 2)" not in str(error):
            raise
        train(overwrite=True)(folder)


RUN = {"run/best/vpt.safetensors", "run/last/training.pt", "run/metrics.jsonl", "run/metrics.csv", "run/result.json"}
SELECT = {"compare": {"a": {}}, "select": {"train.lr": [0.1, 1.0]}, **SHORT}
TABLE = {"run/table.md", "run/table.csv", "run/table.tex"}
KINDS = {
    "train": Kind(train(), train(resume=True), None, RUN),
    "train of nothing": Kind(train(ZERO_SHOT), train(ZERO_SHOT, resume=True), None, RUN - {"run/last/training.pt"}),
    "overwrite": Kind(train(overwrite=True), train(overwrite=True), train(SHORT), RUN),
    "overwrite, then resume": Kind(train(overwrite=True), resumed_or_overwritten, train(SHORT), RUN),
    "pretrain": Kind(whole_backbone(), whole_backbone(resume=True), None, RUN | {"run/backbone/model.safetensors"}),
    "compare": Kind(
        table(sweep.compare, SELECT),
        table(sweep.compare, SELECT),
        None,
        TABLE | {"run/selection.json", "run/a/result.json", "run/trials/a/train.lr=1.0/seed-0/result.json"},
    ),
    "base-to-new": Kind(
        table(protocols.base_to_new, PROMPTS),
        table(protocols.base_to_new, PROMPTS),
        None,
        TABLE | {"run/folder/coop/result.json", "run/folder/coop/new.json"},
    ),
}


def begun(kind: str, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder with what lies in it before."""
    begin, _, before, _ = KINDS[kind]
    former = tmp_path / "former"
    former.mkdir()
    # What is imported for it is then there for all others.
    (before or begin)(former)

    def folder(name: str) -> Path:
        if before is None:
            (tmp_path / name).mkdir()
        else:
            shutil.copytree(former, tmp_path / name)
        return tmp_path / name

    return folder


def assert_same(place: Path, expected: dict[str, bytes], at: int) -> None:
    found = content(place)
    assert found.keys() == expected.keys(), at
    assert [name for name in expected if found[name] != expected[name]] == [], at


@pytest.mark.parametrize("kind", KINDS)
def test_what_died_somewhere_ends_as_what_did_not(kind: str, tmp_path: Path) -> None:
    begin, again, _, writes = KINDS[kind]
    folder = begun(kind, tmp_path)
    count = operations(begin, folder("whole"))
    expected = content(tmp_path / "whole")
    assert writes <= expected.keys()
    for at in random.Random(kind).sample(range(1, count + 1), SOME):
        place = folder(f"{at}")
        assert died(begin, place, at=at)
        assert not died(again, place)
        assert_same(place, expected, at)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_died_anywhere_ends_as_what_did_not(kind: str, tmp_path: Path) -> None:
    """What a process leaves that dies at an operation is what the operation finds: each such state is gone on with."""
    begin, again, _, writes = KINDS[kind]
    place = begun(kind, tmp_path)("place")
    count, found = states(begin, place, tmp_path / "states")
    expected = content(place)
    assert writes <= expected.keys()
    for at, state in found:
        shutil.rmtree(place)
        shutil.copytree(state, place, symlinks=True)
        assert not died(again, place), at
        assert_same(place, expected, at)
    print(f"{kind}: {count} operations, {len(found)} states")
