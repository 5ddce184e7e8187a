"""The rooms of the house: which may import which, how long files are, how light the package is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vpt

PACKAGE = Path(vpt.__file__).parent

# Each room and what it may import, beside itself and the leaves.
LEAVES = {
    "capture",
    "modes",
    "claims",
    "devices",
    "errors",
    "extras",
    "processes",
    "files",
    "digest",
    "launch",
    "paths",
    "images",
    "options",
    "normalised",
    "precision",
    "source",
    "shipped",
    "values",
    "preprocessing",
    "head",
    "held",
    "saving",
    "sharing",
    "facts",
    "report",
    "trust",
    "__version__",
}
MAY_IMPORT = {
    "capture": set(),
    "modes": set(),
    "claims": set(),
    "errors": set(),
    "extras": set(),
    "paths": set(),
    "processes": set(),
    "files": set(),
    "digest": set(),
    "facts": set(),
    "images": set(),
    "head": set(),
    "held": set(),
    "options": set(),
    "source": set(),
    "normalised": set(),
    "precision": set(),
    "values": set(),
    "shipped": set(),
    "preprocessing": set(),
    "saving": set(),
    "sharing": set(),
    "launch": set(),
    "trust": set(),
    "report": set(),
    "towers": set(),
    "methods": set(),
    "data": set(),
    "config": {"methods"},
    "early": {"config"},
    "merge": {"towers", "methods"},
    "around": {"towers", "methods"},
    "loops": {"around", "merge", "towers", "methods"},
    "own_loop": {"loops"},
    "kept": set(),
    "classes": {"text", "methods"},
    "text": {"loops", "towers", "methods"},
    "predict": {"model"},
    "comparing": {"around", "classes", "text", "towers", "methods"},
    "model": {"own_loop", "around", "classes", "comparing", "kept", "loops", "text", "predict", "towers", "methods"},
    "fits": {"towers", "methods"},
    "assemble": {"fits", "model", "text", "towers", "methods"},
    "checks": {"assemble", "model", "methods"},
    "testing": {"checks", "assemble", "model", "towers"},
    "imports": {"assemble", "model", "towers"},
    "tasks": {"model", "methods"},
    "engine": {"tasks", "model", "methods", "data"},
    "build": {"engine", "tasks", "assemble", "model", "text", "towers", "methods", "data", "config"},
    "unused": {"engine", "model", "data", "config"},
    "experiment": {"unused", "build", "engine", "tasks", "model", "data", "config"},
    "sweep": {"experiment", "engine", "build", "config"},
    "space": set(),
    "search": {"sweep", "space", "experiment", "engine", "build", "config"},
    "protocols": {"sweep", "engine", "experiment", "build", "config", "data", "methods"},
    "pretrain": {"experiment", "engine", "build", "config", "model", "data", "towers"},
    "devices": set(),
    "predict_files": {"model", "predict"},
    "use": {"build", "assemble", "model", "predict", "predict_files", "devices", "towers"},
    "reporting": {"experiment", "build", "engine", "model", "data", "config"},
    "beyond": {"experiment", "build", "engine", "tasks", "model", "data", "config", "methods"},
    "serving": {
        "use",
        "experiment",
        "build",
        "engine",
        "assemble",
        "model",
        "predict",
        "text",
        "loops",
        "towers",
        "merge",
        "methods",
        "config",
        "devices",
    },
    "listing": {"fits", "data", "methods", "towers"},
    "commands": {
        "early",
        "imports",
        "protocols",
        "serving",
        "sweep",
        "search",
        "beyond",
        "reporting",
        "pretrain",
        "use",
        "listing",
        "experiment",
        "config",
        "devices",
        "predict",
    },
    "cli": {"commands"},
    "__main__": {"cli"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vpt":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vpt.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    assert imported_rooms(path) <= MAY_IMPORT[room(path)] | LEAVES | {room(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_does_one_thing(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_the_package_loads_nothing_heavy_and_opens_no_connection() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args): raise AssertionError('a connection at import')\n"
        "socket.socket.connect = refuse\n"
        "import vpt, vpt.cli\n"
        "vpt.cli.parser()\n"
        "from vpt import config\n"
        "from vpt.shipped import find_config\n"
        "config.read(find_config('own_images'), ['train.epochs=3'])\n"
        "slips = ('train.epocs=3', 'trian.epochs=3', 'method=lnear', 'backbone')\n"
        "assert {vpt.cli.main(['train', 'own_images', slip]) for slip in slips} == {2}\n"
        "heavy = {'torch', 'timm', 'torchvision', 'albumentations', 'sklearn', 'accelerate', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    for name in vpt.__all__:
        assert getattr(vpt, name) is not None
    assert set(vpt.__all__) <= set(dir(vpt))
    with pytest.raises(AttributeError, match="module 'vpt' has no attribute 'creat'"):
        _ = vpt.creat
