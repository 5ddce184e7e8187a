"""Wrong inputs, a function for each kind of them, which draws one with a generator of random numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import yaml

import vpt
from benchmarks.wrong.world import CONFIG, Attempt
from vpt.config import Config
from vpt.source import function_fields

WORDS: tuple[str, ...] = (
    *(
        "",
        " ",
        "~",
        "null",
        "true",
        "no",
        "[]",
        "[1]",
        "[a, b]",
        "{}",
        "{a: 1}",
        "{",
        "[",
        "'",
        '"',
        "#",
        "# x",
        "a: b",
    ),
    *("\u202e", "\x1b[31m", "写真", "%s", "{0}", "$HOME", "../..", "/dev/null", "x" * 5000, "@x", "&a", "*a", "a\tb"),
    *(
        "a: b",
        "a\nb",
        "!!python/object/apply:os.system [ls]",
        "2024-01-01",
        "007",
        "0x10",
        "1_000",
        "1:30",
        "photos #2",
        "-",
    ),
)
NUMBERS = (
    *(
        "-1",
        "0",
        "1.5",
        "-0.5",
        "1e999",
        ".nan",
        "nan",
        "inf",
        "-.inf",
        "99999999999999999999",
        "1e-400",
        "true",
        "yes",
    ),
    *("2", "[1, 2]", "1e3", "None", "''", "1,5", "½", "٣", "--1", "1 2"),
)
# Numbers that are allowed, and would keep this busy for long.
LARGE = ("1e3", "99999999999999999999")
COUNTS = ("epochs", "steps", "batch_size", "accumulate", "eval_every", "patience", "workers", "views", "seed")
RATES = ("lr", "base_lr", "head_lr", "momentum", "weight_decay", "eps", "warmup_epochs", "min_lr", "clip_norm", "ema")
TRAIN = list(function_fields("vpt.engine.fit", "fit"))
DATA = ("path", "name", "shots", "seed", "val_fraction", "test_fraction", "broken", "check", "classes_subset", "cache")
METHOD = ("name", "num_tokens", "first", "last", "shared", "dropout", "project", "init", "alpha", "k")
BACKBONE = ("name", "pretrained", "weights", "image_size", "dtype", "preprocessing", "patch_size")
OTHERS = ("linear", "vpt-deep", "vpt-shallow", "bias", "coop", "partial-k")
COMMANDS: tuple[str, ...] = (
    "train",
    "compare",
    "few-shot",
    "base-to-new",
    "transfer",
    "eval",
    "predict",
    "classes",
    "words",
    "search",
)
COMMANDS += ("search", "attention", "list", "configs", "inspect", "fit-batch", "pretrain", "")
FLAGS: tuple[str, ...] = (
    "--quiet",
    "--overwrite",
    "--resume",
    "--no-test",
    "--json",
    "--top",
    "--csv",
    "--out",
    "--split",
    "--device",
)
FLAGS += ("--labels", "--row", "--blocks", "--max", "--weights", "--workers", "--help-me", "-q", "--", "--max-pixels")
# Files of a run, and what is asked of it.
FILES = ("config.yaml", "result.json", "environment.json", "best/vpt.json", "best/vpt.safetensors")
READ: dict[tuple[str, ...], tuple[str, ...]] = {
    ("train", "config.yaml", "out=run", "--resume"): FILES,
    ("eval", "run"): FILES,
    ("report", "run", "--out", "page.html"): ("config.yaml", "result.json", "metrics.jsonl", "predictions.csv"),
}
PLACES = ("config.yaml", "photos", "run", "model", "run/best", "notes.txt", "photos/red/0.png", "nothing", "table.csv")


def assignment(draw: Random) -> Attempt:
    """A value that its key cannot mean, or a key that there is not."""
    key = draw.choice(
        [
            draw.choice(list(Config.model_fields)),
            f"train.{draw.choice(TRAIN)}",
            f"data.{draw.choice(DATA)}",
            f"method.{draw.choice(METHOD)}",
            f"backbone.{draw.choice(BACKBONE)}",
        ]
    )
    if draw.random() < 0.15:
        key = _mistyped(draw, key)
    return _train(draw, "assignment", f"{key}={draw.choice(WORDS + NUMBERS)}")


def number(draw: Random) -> Attempt:
    """A number that makes no sense where it stands."""
    key = draw.choice((*COUNTS, *RATES, "label_smoothing"))
    value = draw.choice([each for each in NUMBERS if each not in LARGE or key not in COUNTS])
    return _train(draw, "number", f"train.{key}={value}")


def option(draw: Random) -> Attempt:
    """An option of one method, data set or backbone given to another, with --overwrite over a finished run."""
    section, names = draw.choice((("method", METHOD), ("data", DATA), ("backbone", BACKBONE)))
    said = [f"method={draw.choice(OTHERS)}", f"{section}.{draw.choice(names)}={draw.choice(NUMBERS)}"]
    arguments = ("train", "config.yaml", *said, "out=run", "--overwrite", "--quiet")
    return Attempt("option", " ".join(said), arguments=arguments, may_change=("run",))


def config_file(draw: Random) -> Attempt:
    """A config with something cut, doubled, moved, or put in the place of something else."""
    text = yaml.safe_dump(CONFIG, sort_keys=False)
    lines = text.splitlines()
    at, junk = draw.randrange(len(lines)), draw.choice(WORDS + NUMBERS)
    key = lines[at].partition(":")[0]
    changed = draw.choice(
        [
            text[: draw.randrange(len(text))],
            "\n".join([*lines[:at], *lines[at + 1 :]]),
            "\n".join([*lines, lines[at]]),
            "\n".join([*lines[:at], f"{key}: {junk}", *lines[at + 1 :]]),
            "\n".join([*lines[:at], f"  {lines[at]}", *lines[at + 1 :]]),
            "\n".join([*lines[:at], lines[at].replace(key.strip(), _mistyped(draw, key.strip())), *lines[at + 1 :]]),
            junk,
            json.dumps([CONFIG]),
        ]
    )
    raw = changed.encode() if draw.random() < 0.9 else bytes(draw.randrange(256) for _ in range(40))
    attempt = ("train", "config.yaml", "out=new", "--quiet")
    return Attempt("config file", repr(raw[-80:]), lambda world: _write(world / "config.yaml", raw), attempt)


def saved_model(draw: Random) -> Attempt:
    """A saved model with a field gone or of another kind, or with bytes that are others."""
    name = draw.choice(("vpt.json", "vpt.json", "vpt.safetensors"))
    seed = draw.random()
    return Attempt(
        "saved model",
        f"{name} {seed}",
        lambda world: _damage(Random(seed), world / "model" / name),
        ("predict", "model", "photos/red/0.png"),
    )


def run_there(draw: Random) -> Attempt:
    """A finished run with a file that is damaged, gone, or of another kind, gone on with, measured or reported."""
    command = draw.choice(list(READ))
    name, seed = draw.choice(READ[command]), draw.random()

    def prepare(world: Path) -> None:
        if seed < 0.15:
            (world / "run" / name).unlink()
        else:
            _damage(Random(seed), world / "run" / name)

    return Attempt("run there", f"{name} {seed} {command[0]}", prepare, command, may_change=("run", "page.html"))


def table(draw: Random) -> Attempt:
    """A table or captions with a row, a column or a cell that is wrong."""
    file, name = draw.choice((("table.csv", "table"), ("captions.csv", "captions")))
    seed = draw.random()

    def prepare(world: Path) -> None:
        inner = Random(seed)
        lines = (world / file).read_text().splitlines()
        at, junk = inner.randrange(len(lines)), inner.choice(WORDS + NUMBERS)
        changed = inner.choice(
            [
                [*lines[:at], junk, *lines[at + 1 :]],
                [*lines[:at], f"{lines[at]},{junk}", *lines[at + 1 :]],
                [*lines[:at], lines[at].partition(",")[0], *lines[at + 1 :]],
                [*lines[:at], f"{junk},{lines[at].partition(',')[2]}", *lines[at + 1 :]],
                [*lines[:at], f"{lines[at].partition(',')[0]},{junk}", *lines[at + 1 :]],
                lines[1:],
                lines[:1],
                [],
            ]
        )
        _write(world / file, "\n".join(changed).encode())

    backbone = ("backbone=vpt/clip-nano", "method=zero-shot") if name == "captions" else ()
    said = (f"data={name}", f"data.path={file}", "data.root=photos", *backbone, "out=new", "--quiet")
    return Attempt("table", f"{file} {seed}", prepare, ("train", "config.yaml", *said))


def command(draw: Random) -> Attempt:
    """Words of the command line in no good order."""
    words = [draw.choice(COMMANDS)]
    for _ in range(draw.randrange(5)):
        words.append(draw.choice((draw.choice(PLACES), draw.choice(FLAGS), draw.choice(WORDS), draw.choice(NUMBERS))))
    # What is written where it was asked for is no loss.
    asked = tuple(after for flag, after in pairwise(words) if flag in ("--out", "--csv"))
    changes = (*asked, "run") if "--overwrite" in words else ()
    return Attempt("command", repr(words), arguments=tuple(words), may_change=tuple(each for each in changes if each))


def python(draw: Random) -> Attempt:
    """A call with an argument of the wrong kind or range."""
    wrong: Any = draw.choice(
        (None, True, -1, 0, 1.5, float("nan"), "dog", "", [], [1], {}, {"a": 1}, b"x", object(), 3 + 4j)
    )
    place = draw.choice(("create", "options", "fit", "load", "predict", "data"))
    calls: dict[str, tuple[tuple[str, ...], Callable[[str], object]]] = {
        "create": (
            ("name", "method", "classes", "num_classes", "head", "templates", "weights", "image_size", "dtype"),
            lambda key: vpt.create(**_with(key, wrong, name="vpt/vit-nano", method="linear", num_classes=2)),
        ),
        "options": (
            ("num_tokens", "dropout", "project", "init", "first", "last", "shared"),
            lambda key: vpt.create(**_with(key, wrong, name="vpt/vit-nano", method="vpt-deep", num_classes=2)),
        ),
        "fit": (("train", "val", *TRAIN), lambda key: _fitted(key, wrong)),
        "load": (
            ("source", "backbone", "weights", "dtype"),
            lambda key: vpt.load(**_with(key, wrong, source="model")),
        ),
        "predict": (("images",), lambda key: vpt.load("model").predict(wrong)),
        "data": (
            ("name", *DATA[:1], *DATA[2:]),
            lambda key: vpt.data.load(**_with(key, wrong, name="folder", path="photos")),
        ),
    }
    keys, call = calls[place]
    key = draw.choice(keys)
    return Attempt("Python", f"{place} {key}={wrong!r}", call=lambda: call(key))


KINDS = (assignment, number, option, config_file, saved_model, run_there, table, command, python)


def _with(key: str, wrong: Any, **right: Any) -> dict[str, Any]:
    return right | {key: wrong}


def _fitted(key: str, wrong: Any) -> object:
    data: Any = vpt.data.load("folder", path="photos")
    model = vpt.create("vpt/vit-nano", "linear", classes=data.classes)
    return vpt.fit(model, **_with(key, wrong, train=data.train, val=data.val, epochs=1, progress=False))


def _train(draw: Random, kind: str, said: str) -> Attempt:
    """Training with an assignment, into a new folder, or over the run that is there."""
    over = draw.random() < 0.5
    where = ("out=run", "--overwrite") if over else ("out=new",)
    changes = ("run", "new", "runs", "photos #2") if over else ("new", "runs")
    return Attempt(kind, said, arguments=("train", "config.yaml", *where, "--quiet", said), may_change=changes)


def _mistyped(draw: Random, text: str) -> str:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice("xz._= ") + text[at + draw.randrange(2) :]


def _damage(draw: Random, path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.7:
        values = json.loads(content)
        inside = values
        key = draw.choice(list(inside))
        if isinstance(inside[key], dict) and inside[key] and draw.random() < 0.6:
            inside = inside[key]
            key = draw.choice(list(inside))
        if draw.random() < 0.4:
            del inside[key]
        else:
            inside[key] = draw.choice((None, True, -1, 1e9, "x", [], {}, [1], {"a": 1}, "../.."))
        content = json.dumps(values).encode()
    elif draw.random() < 0.5:
        content = content[: draw.randrange(len(content))]
    else:
        at = draw.randrange(len(content))
        content = content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
    _write(path, content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
