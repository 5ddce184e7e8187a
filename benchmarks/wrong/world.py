"""A folder with all that a user has, in which something wrong is tried, and what came of it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

import vpt
from vpt.cli import main

# Seconds of this process' own work after which an attempt counts as one that hangs, and of the clock.
PATIENCE = 60
WAITING = 600
CONFIG = {
    "backbone": "vpt/vit-nano",
    "method": {"name": "linear"},
    "data": {"name": "folder", "path": "photos"},
    "train": {"epochs": 1, "batch_size": 8},
}
OUTCOMES = ("refused", "accepted", "failed", "traceback", "hang", "lost", "left behind")


class HungError(BaseException):
    """An attempt took longer than `PATIENCE` or `WAITING`."""


@dataclass(frozen=True)
class Attempt:
    """Something wrong to try.

    Attributes:
        kind: of wrong input.
        title: to find it again by.
        prepare: changes files of the world first.
        arguments: of the command line; or
        call: Python.
        may_change: names in the world that this may rightly change if it is accepted.
    """

    kind: str
    title: str
    prepare: Callable[[Path], None] | None = None
    arguments: tuple[str, ...] = ()
    call: Callable[[], object] | None = None
    may_change: tuple[str, ...] = ()


def build(folder: Path) -> None:
    """Photos, a table and captions of them, a config, a finished run, a saved model and notes of one's own."""
    for label, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(6):
            shade = tuple(min(255, c + 9 * index) for c in colour)
            Image.new("RGB", (20, 20), shade).save(folder / "photos" / label / f"{index}.png")
    names = [f"{label}/{index}.png" for label in ("blue", "red") for index in range(6)]
    (folder / "table.csv").write_text("path,label\n" + "".join(f"{n},{n.partition('/')[0]}\n" for n in names))
    (folder / "captions.csv").write_text("image,caption\n" + "".join(f"{n},a {n}\n" for n in names))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "notes.txt").write_text("of one's own")
    with inside(folder), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main(["train", "config.yaml", "out=run", "--quiet"]) == 0
        vpt.create("vpt/vit-nano", "linear", classes=["blue", "red"]).save_pretrained("model")


def attempted(attempt: Attempt, pristine: Path, scratch: Path) -> tuple[str, str]:
    """One of `OUTCOMES`, and what was said, of an attempt in a copy of the pristine world."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(pristine, scratch, symlinks=True)
    if attempt.prepare is not None:
        attempt.prepare(scratch)
    before = _digests(scratch)
    with inside(scratch):
        outcome, said = _tried(attempt)
    after = _digests(scratch)
    own = attempt.may_change if outcome == "accepted" else ()
    changed = [name for name in before if after.get(name) != before[name] and not name.startswith(own or ("\0",))]
    if changed:
        return "lost", f"{changed[0]}: {said}"
    new = sorted(set(after) - set(before))
    if new and outcome in ("refused", "traceback"):
        return "left behind" if outcome == "refused" else outcome, f"{new[0]}: {said}"
    return outcome, said


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _tried(attempt: Attempt) -> tuple[str, str]:
    def hang(*_: object) -> None:
        raise HungError

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGPROF, hang)
    signal.alarm(WAITING)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            if attempt.call is not None:
                return _called(attempt.call)
            code = main(list(attempt.arguments))
    except HungError:
        return "hang", ""
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException as error:
        return "traceback", _where(error)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    said = err.getvalue().strip()
    last = said.splitlines()[-1] if said else ""
    if "was not foreseen" in said or "Traceback" in said:
        return "traceback", said[-300:]
    if code == 0:
        return "accepted", last
    # Notes may stand before the one sentence of the refusal.
    one = all(line.startswith("vpt: ") for line in said.splitlines()) and last.rstrip().endswith((".", "?", "…"))
    return ("refused" if code == 2 else "failed") if one else "traceback", said[-300:]


def _called(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except vpt.VptError as error:
        return "refused", str(error)
    except (TypeError, ValueError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        # Of Python itself, or raised by the package in a sentence that names the argument.
        own = f"{os.sep}vpt{os.sep}" in frames[-1].filename or len(frames) <= 2
        named = re.search(r"argument|\b\w+=|^\w+ is a ", str(error))
        return ("refused" if own and named else "traceback"), _where(error)
    return "accepted", ""


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}vpt{os.sep}" in frame.filename]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:300] + place


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found
