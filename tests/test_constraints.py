"""constraints.txt holds what `make setup` installs, at the versions that are tested, and nothing else."""

import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
OWN = canonicalize_name(PROJECT["project"]["name"])

Wanted = tuple[str, frozenset[str]]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): number for name, _, number in (line.partition("==") for line in lines)}


def wanted_by(requirements: list[str], extras: frozenset[str]) -> list[Wanted]:
    found = []
    for requirement in map(Requirement, requirements):
        asked = [requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ["", *extras]]
        if any(asked):
            found.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def needed() -> set[str]:
    """Names of what the project needs with the extra `dev`, and of what that needs, on this machine."""
    waiting = wanted_by([*PROJECT["project"]["dependencies"], *EXTRAS["dev"]], frozenset())
    seen: set[Wanted] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name == OWN:
            waiting += [each for extra in extras for each in wanted_by(EXTRAS[extra], frozenset())]
        else:
            waiting += wanted_by(distribution(name).requires or [], extras)
    # pip installs them.
    return {name for name, _ in seen} - {OWN} | {"pip"}


def test_all_that_is_needed_is_pinned() -> None:
    assert needed() - set(pinned()) == set()


def test_nothing_else_is_pinned() -> None:
    # Elsewhere GPUs need other packages, or none.
    spare = set(pinned()) - needed() if sys.platform == "linux" else set()
    assert spare == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    assert {name: version(name) for name in needed()} == {name: pinned()[name] for name in needed()}


def test_every_extra_is_tried_or_named_here() -> None:
    tried = {extra for name, extras in wanted_by(EXTRAS["dev"], frozenset()) if name == OWN for extra in extras}
    # The words of SigLIP's models come from the hub, which tests do without.
    assert set(EXTRAS) - {"dev"} - tried == {"siglip"}
