"""A tower in one file, from another package: the page on it is run, and its entry point opens its models."""

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import vpt
from vpt import VptError
from vpt.report.attention import attention
from vpt.testing import check_tower
from vpt.towers import plugins
from vpt.towers.load import load, names, wrap

PAGE = Path(__file__).parents[2] / "docs" / "towers.md"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """What all Python on the page defines, in its order."""
    found = ModuleType("acme")
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), found.__dict__)
    return found


@pytest.fixture
def acme(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page as a package that is installed."""
    point = SimpleNamespace(name="acme", value="acme", load=lambda: page)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "vpt.towers" else [])
    for cached in (plugins.plugins, plugins.plugin):
        cached.cache_clear()
    yield page
    for cached in (plugins.plugins, plugins.plugin):
        cached.cache_clear()


def test_the_page_runs_and_its_tower_obeys_the_laws(page: ModuleType) -> None:
    assert page.errors["identity"] < 1e-6
    assert all(error < 1e-10 for law, error in page.errors.items() if law != "identity")
    assert page.prompted(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_an_encoder_of_stages_from_another_package_obeys_the_laws_and_is_trained(page: ModuleType) -> None:
    assert page.errors_of_stages["identity"] < 1e-6
    assert all(error < 1e-10 for law, error in page.errors_of_stages.items() if law != "identity")
    seen = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    model = vpt.attach(page.PyramidTower(page.Pyramid()), "vpt-deep", num_tokens=2, num_classes=2, preprocessing=seen)
    assert model.num_tuned(head=False) == 2 * (2 * 12 + 2 * 24)
    assert model.tokens(torch.zeros(1, 3, 32, 32), after=0).shape == (1, 16, 12)
    with pytest.raises(VptError, match="its tokens lie in stages"):
        vpt.attach(page.PyramidTower(page.Pyramid()), "lora", num_classes=2, preprocessing=seen)
    with pytest.raises(VptError, match="attention of an encoder of stages"):
        attention(model, torch.zeros(1, 3, 32, 32))


def test_an_entry_point_opens_models_live_and_by_name(acme: ModuleType, tmp_path: Path) -> None:
    assert wrap(acme.Model()).tower.path(0).startswith("opened")
    assert "acme/small" in names()
    model = vpt.create("acme/small", "vpt-deep", num_tokens=2, num_classes=2, backbone_options={"width": 12})
    assert model.tower.width == 12
    assert load("acme/small").preprocessing.size == (32, 32)
    with pytest.raises(VptError, match=r"backbone\.depth is no option"):
        load("acme/small", depth=3)


def test_a_model_of_another_package_is_left_to_others(acme: ModuleType) -> None:
    from tests.zoo import vit

    assert wrap(vit()).name.startswith("timm/")


def test_a_tower_itself_needs_to_be_told_what_it_was_trained_to_see(page: ModuleType) -> None:
    with pytest.raises(VptError, match="a MyTower does not say what images it was trained on: say preprocessing="):
        vpt.attach(page.MyTower(page.Model()), num_classes=2)


def test_an_entry_point_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("gone", "no_such_module_at_all", "vpt.towers"), EntryPoint("bare", "math", "vpt.towers")]
    monkeypatch.setattr(plugins, "plugins", lambda: {point.name: point for point in points})
    with pytest.raises(VptError, match=r"the entry point gone = 'no_such_module_at_all' .* cannot be imported"):
        plugins.plugin.__wrapped__("gone")
    with pytest.raises(VptError, match=r"bare = 'math' .* has no function wrap"):
        plugins.plugin.__wrapped__("bare")


# What a tower gets wrong, by its name, and what is then said. Each is given the class of the page's tower.
FAULTS = {
    "not \\(B, N, D\\)": lambda kind: {"embed": lambda self, images: images.flatten(1)},
    "identity": lambda kind: {"readout": lambda self, x: x.mean(1)},
    "attention only: block 0": lambda kind: {
        "open": lambda self, layer: replace(kind.open(self, layer), out=lambda o, y: o)
    },
    "depend on the rest of its batch": lambda kind: {"readout": lambda self, x: x.mean(1) + x.mean((0, 1))},
    "not \\(B, num_features\\)": lambda kind: {"num_features": property(lambda self: 5, lambda self, value: None)},
    "beyond the first `read` tokens": lambda kind: {"read": property(lambda self: 1, lambda self, value: None)},
}


@pytest.mark.parametrize("law", FAULTS)
def test_a_broken_law_is_found_and_named(page: ModuleType, law: str) -> None:
    model = page.Model().eval()
    broken = type("Broken", (page.MyTower,), FAULTS[law](page.MyTower))
    with pytest.raises(AssertionError, match=law):
        check_tower(broken(model), features=model if law == "identity" else None)


# What a tower of stages gets wrong, as above.
FAULTS_OF_STAGES = {
    "attention only: block 0, without prompts": lambda kind: {"own": lambda self, layer, x: x},
    "attention only: block 0: .* apart": lambda kind: {
        "beside": lambda self, layer, x, prompts, *, both: kind.beside(
            self, layer, x, prompts if both else prompts[:, :0], both=both
        )
    },
    "prompts that are advanced are not": lambda kind: {
        "beside": lambda self, layer, x, prompts, *, both: (kind.beside(self, layer, x, prompts, both=both)[0], None)
    },
    "not \\(B, H, W, D\\)": lambda kind: {"embed": lambda self, images: kind.embed(self, images).flatten(1, 2)},
    "not width_at's 12": lambda kind: {"width_at": lambda self, layer: 12},
}


@pytest.mark.parametrize("law", FAULTS_OF_STAGES)
def test_a_broken_law_of_stages_is_found_and_named(page: ModuleType, law: str) -> None:
    broken = type("Broken", (page.PyramidTower,), FAULTS_OF_STAGES[law](page.PyramidTower))
    with pytest.raises(AssertionError, match=law):
        check_tower(broken(page.Pyramid().eval()))
