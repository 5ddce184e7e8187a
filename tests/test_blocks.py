"""Every command and code block of README and docs runs, or says why it cannot and is checked as far as it goes.

Backbones of the hub are played by the two that come with the package, trainings have one epoch and one seed, tables two
rows, data sets few images, and the pictures are noise: what is tested is that what a page says can be said.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import vpt
from benchmarks.__main__ import parser as benchmarks
from tests.blocks import PAGES, ROOT, Block, blocks, commands, given, run
from vpt import config
from vpt.cli import main
from vpt.shipped import find_config
from vpt.towers import load as towers

ALL = [block for page in PAGES for block in blocks(page)]
# Of these pages every block is run in the default suite, of the others with -m slow.
QUICK = {"README.md", "docs/python.md"}
# Run where more is said of what comes out.
ELSEWHERE = {"docs/extending.md": "tests/methods/test_checks.py", "docs/towers.md": "tests/towers/test_plugins.py"}
RUN = [
    page
    for page in PAGES
    if any(block.language in ("python", "sh") and block.reason is None for block in blocks(page))
    and page.relative_to(ROOT).as_posix() not in ELSEWHERE
]


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_pages_that_are_run_elsewhere(page: str, test: str) -> None:
    assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


def ids(values: list[Any]) -> list[str]:
    return [str(value.relative_to(ROOT) if isinstance(value, Path) else value) for value in values]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_fence_is_missed(page: Path) -> None:
    assert len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.M)) == 2 * len(blocks(page))


def of(*languages: str) -> Any:
    found = [block for block in ALL if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=ids(found))


def test_every_block_says_its_language() -> None:
    assert {block.language for block in ALL} <= {"python", "sh", "text", "yaml", "toml", "json"}


@of("python")
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", dont_inherit=True)


@of("yaml", "toml", "json")
def test_data_can_be_read(block: Block) -> None:
    read = {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads}[block.language](block.text)
    assert isinstance(read, Mapping)
    if block.language == "yaml":
        # A part of a config: with the rest of one it is one.
        path = find_config("own_images")
        whole = yaml.safe_load(path.read_text(encoding="utf-8"))
        config.Config.model_validate({**whole, **{key: merged(whole.get(key), value) for key, value in read.items()}})


def merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) and "name" not in new else new


@of("sh")
def test_commands_are_commands(block: Block) -> None:
    found = commands(block.text)
    assert found
    for words in found:
        check(words)


def check(words: list[str]) -> None:
    """Nothing, if a command is one: of vpt its arguments and its config, of others what of them is ours."""
    match words:
        case ["vpt", *_]:
            known = given(words)
            if getattr(known, "overrides", None) is not None and "config" in known and known.config != "CONFIG":
                read_config(known)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        case ["python", "-m", "benchmarks", *options]:
            benchmarks().parse_args(options)
        case ["python", "-m", module, *_]:
            place = ROOT / module.replace(".", "/")
            assert module == "venv" or place.with_suffix(".py").exists() or place.is_dir()
        case ["pip", "install", what]:
            extra = re.search(r"\[(\w+)\]", what)
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            assert what.partition("[")[0] in (".", "visual-prompt-tuning")
            assert extra is None or extra[1] in project["optional-dependencies"]
        case ["sbatch", script, name, *rest]:
            assert (ROOT / script).is_file()
            check(["vpt", "sweep" if "search" in script else "train", name, *rest])
        case [".", ".venv/bin/activate"] | ["curl", *_]:
            pass
        case _:
            pytest.fail(f"no command that is known: {words}")


def read_config(known: argparse.Namespace) -> None:
    """As the command reads it, before anything is looked for."""
    name = known.config
    if (ROOT / name).exists():
        name = str(ROOT / name)
    if Path(name).suffix != ".yaml" or Path(name).exists():
        config.read(find_config(name), known.overrides)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the hub are those of the package's own models, by whether there are texts."""
    load = towers._load

    def stood_in(name: str, weights: Any, options: Mapping[str, Any]) -> Any:
        if name.startswith("vpt/") or not options.get("pretrained", True) or ":" in name:
            return load(name, weights, options)
        texts = name.startswith("open_clip/")
        kept = {key: value for key, value in options.items() if key in ("dtype",)}
        return load("vpt/clip-nano" if texts else "vpt/vit-nano", None, kept)

    monkeypatch.setattr(towers, "_load", stood_in)
    fit = vpt.fit
    monkeypatch.setattr(vpt, "fit", lambda *data, epochs=1, **options: fit(*data, epochs=1, **options))


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(values).resize((60, 50), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: pictures of two classes, others, and a finished run."""
    root = tmp_path_factory.mktemp("pages")
    for index in range(6):
        for at, name in enumerate(("bee", "wasp")):
            noise(root / "photos" / name / f"{index}.jpg", 2 * index + at)
    for index in range(2):
        for at, name in enumerate(("bee", "wasp")):
            noise(root / "other_photos" / name / f"{index}.jpg", 50 + 2 * index + at)
        noise(root / "new_photos" / f"{index}.jpg", 80 + index)
    for index, name in enumerate(("new", "rose", "robin", "a", "b")):
        noise(root / f"{name}.jpg", 100 + index)
    for folder in ("configs", "data"):
        (root / folder).symlink_to(ROOT / folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        words = ["own_images", "data.path=photos", "train.epochs=1", "--quiet"]
        assert main(["train", *words, "out=runs/finished"]) == 0
        assert main(["train", *words, "method=linear", "head=linear", "out=runs/linear"]) == 0
    return root


# What a page takes for granted: finished runs by name.
RUNS = {
    "docs/report.md": {"mine": "finished", "vpt-deep": "finished", "linear": "linear"},
    "docs/export.md": {"mine": "finished"},
    "docs/serving.md": {"flowers": "finished", "birds": "linear"},
    "docs/sharing.md": {"flowers": "finished"},
}
SAVED = {"docs/export.md": "best-of-mine"}


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a page's own."""
    shutil.copytree(prepared, tmp_path / "page", symlinks=True, ignore=shutil.ignore_patterns("runs"))
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.setenv("VPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "page"


def marked(page: Path) -> Any:
    name = page.relative_to(ROOT).as_posix()
    return pytest.param(page, marks=() if name in QUICK else pytest.mark.slow, id=name)


@pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument is set", "ignore:.*isinstance.treespec", "ignore:Found .* eval mode"
)
@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("page", [marked(page) for page in RUN])
def test_a_page_runs(page: Path, place: Path, prepared: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    for wanted, kept in RUNS.get(name, {}).items():
        shutil.copytree(prepared / "runs" / kept, place / "runs" / wanted)
    if name in SAVED:
        shutil.copytree(prepared / "runs" / "finished" / "best", place / SAVED[name])
    names: dict[str, Any] = {"__name__": "page", "vpt": vpt}
    at: Block | None = None
    try:
        for block in run(blocks(page), names):
            at = block
    except Exception as error:
        raise AssertionError(f"{at} fails: {error}") from error
    finally:
        logging.getLogger("vpt").setLevel(logging.INFO)  # which a page changes
