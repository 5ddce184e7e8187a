"""The configs that come with the package, found by name."""

from __future__ import annotations

from pathlib import Path

from vpt.errors import VptError, did_you_mean

# Beside the package in its source tree, inside it where it was installed.
PACKAGE = Path(__file__).parent
PLACES = (PACKAGE / "configs", PACKAGE.parent / "configs")


def shipped() -> dict[str, Path]:
    """Every config that comes with the package, by its name, e.g. "own_images" or "paper/coop/few_shot"."""
    root = next((place for place in PLACES if place.is_dir()), PLACES[0])
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """The file of this path; or where there is none, the config that comes with the package by this name.

    Raises:
        VptError: there is neither, or several go by this name.
    """
    if Path(name).exists():
        return Path(name)
    configs = shipped()
    wanted = name.removeprefix("configs/").removesuffix(".yaml")
    found = [each for each in configs if each == wanted] or [each for each in configs if each.endswith(f"/{wanted}")]
    if len(found) > 1:
        raise VptError(f"several configs are named {wanted!r}: say one of {', '.join(found)}.")
    if not found:
        hint = did_you_mean(wanted, configs, see="vpt configs")
        raise VptError(f"there is no config {name!r}, neither a file nor one of those that come with vpt: {hint}")
    return configs[found[0]]


def purpose(path: Path) -> str:
    """What a config is for: the first sentence of its comment, behind the command that runs it."""
    lines = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()]
    paragraphs = "\n".join(lines).split("\n\n")
    said = next((" ".join(text.split()) for text in paragraphs[1:] if text), "")
    return said.partition(". ")[0].rstrip(".") + "."


def command(path: Path) -> str:
    """The command of `vpt` that runs a config, from its first line."""
    first = path.read_text(encoding="utf-8").partition("\n")[0].split()
    return first[2] if first[:2] == ["#", "vpt"] else "train"
