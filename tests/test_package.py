"""What is built to be given on: an archive of sources and a wheel, which holds all that it takes and runs by itself."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import vpt

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Seconds of training: what is shown is that it runs, not what it comes to.
QUICK = ["data.shots=2", "train.epochs=1"]


class Built(NamedTuple):
    """Both archives, and the files in them; of the sources without the folder around them."""

    wheel: Path
    in_wheel: set[str]
    in_sources: set[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel is built from the sources as they are given on, without the network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,), (sources,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sources) as archive:
        in_sources = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    return Built(wheel, in_wheel, in_sources)


def files_of(folder: str) -> set[str]:
    """What of a folder belongs to the project."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc"}


def test_the_wheel_holds_the_package_its_configs_and_licences_and_nothing_else(built: Built) -> None:
    info = f"visual_prompt_tuning-{vpt.__version__}.dist-info/"
    package = files_of("vpt") | {f"vpt/{name}" for name in files_of("configs")}
    assert {name for name in built.in_wheel if not name.startswith(info)} == package
    licences = {"LICENSE", "vpt/assets/clip-nano/LICENSE", "vpt/assets/vit-nano/LICENSE"}
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt"} | {f"licenses/{name}" for name in licences}
    assert {name.removeprefix(info) for name in built.in_wheel if name.startswith(info)} == about
    # By name what is easily forgotten.
    assert {
        "vpt/py.typed",
        "vpt/configs/quickstart.yaml",
        "vpt/report/page.html",
        "vpt/serving/page/index.html",
        "vpt/assets/vit-nano/model.safetensors",
        "vpt/assets/clip-nano/open_clip_model.safetensors",
        "vpt/assets/clip-nano/LICENSE",
    } <= built.in_wheel


def test_the_sources_hold_what_their_make_and_their_tests_take(built: Built) -> None:
    folders = set().union(*(files_of(name) for name in ("vpt", "configs", "docs", "tests", "benchmarks", "notebooks")))
    alone = {
        *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "data/README.md"),
        *("pyproject.toml", "constraints.txt", "Makefile", "mkdocs.yml", ".gitignore", "PKG-INFO"),
    }
    assert built.in_sources == folders | alone


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, away from the checkout, which finds other packages in the present one."""
    place = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(place, with_pip=False)
    site = sysconfig.get_path("purelib", "venv", vars={"base": str(place), "platbase": str(place)})
    # What it names is searched, but for further such files in it, by which the checkout would be found.
    (Path(site) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(built.wheel)]
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, *install], check=True, capture_output=True, text=True, cwd=place)
    return python


def run(python: Path, folder: Path, *command: str) -> str:
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VPT_DATA")}
    done = subprocess.run([python, *command], cwd=folder, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def vpt_in(python: Path, folder: Path, *words: str) -> str:
    """The installed command."""
    (command,) = python.parent.glob("vpt*")
    return run(python, folder, str(command), *words)


def test_it_is_the_wheel_that_is_imported(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import vpt; print(vpt.__file__)").strip()
    assert Path(where).is_relative_to(installed.parents[1])
    assert vpt_in(installed, tmp_path, "--version").split() == ["vpt", vpt.__version__]


def test_configs_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    listed = vpt_in(installed, tmp_path, "configs")
    assert all(name in listed for name in ("quickstart", "own_images", "few_shot_clip"))
    written = vpt_in(installed, tmp_path, "configs", "own_images")
    assert written.strip() == (ROOT / "configs/own_images.yaml").read_text(encoding="utf-8").strip()


def test_the_quick_start_runs_with_both_backbones_and_reports(installed: Path, tmp_path: Path) -> None:
    table = vpt_in(installed, tmp_path, "compare", "quickstart", *QUICK)
    assert all(row in table for row in ("linear", "vpt-shallow", "vpt-deep", "full"))
    draw = "import vpt; vpt.data.load('digits').test.image(0).save('digit.png')"
    run(installed, tmp_path, "-c", draw)
    assert "digit.png" in vpt_in(installed, tmp_path, "predict", "runs/quickstart/vpt-deep", "digit.png")
    assert vpt_in(installed, tmp_path, "predict", "vpt/clip-nano", "digit.png", "--labels", "a dog", "a digit")
    vpt_in(installed, tmp_path, "report", "runs/quickstart/vpt-deep", "--out", "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_annotations_are_seen_from_outside(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("import vpt\n\nwrong: int = vpt.VptError('no')\n")
    command = ["-m", "mypy", "--python-executable", str(installed), "--follow-imports", "silent", "user.py"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "user.py:3: error: Incompatible types in assignment" in done.stdout, done.stdout + done.stderr
